"""Proof that a log is whole and as it was: a tree over it, seals of its root, and the proof of one task's history."""
