"""Videos: the task types, and the reading that they share."""
