"""Snapshots: what a fold of the log has led to, kept beside the log so that a start need not fold all of it."""
