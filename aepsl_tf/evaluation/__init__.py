"""Numbers against ground truth."""
