"""One command line a phase."""
