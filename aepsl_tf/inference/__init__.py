"""From network output to masks and numbers."""
