"""Batches: one named set of tasks, made of many files at once."""
