"""Videos: what all their types read with, and each type."""
