"""Queries on the views, for now and for any earlier position or time."""
