"""The configuration: what can be set, what it means, where it is read from."""

DEFAULT_DATA = "tasktrail-data"
"""The data folder of whoever names none, in the current folder."""
