"""A run as pictures and as a page."""
