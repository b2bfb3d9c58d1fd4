"""Solver, loop and summaries."""
