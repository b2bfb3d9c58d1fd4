"""The two networks and their losses."""
