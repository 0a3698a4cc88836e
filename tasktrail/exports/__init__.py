"""The log, the tasks and their attempts in a file, in forms that other programs read."""
