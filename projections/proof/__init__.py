"""Proofs that a log is whole and unchanged: a tree over it, seals of its root, and the proof of one task's history."""
