"""The log: the one truth, its seam, and where it is kept."""
