"""Exports of the log, the tasks and their attempts to a file, in forms that other programs read."""
