"""The log: the only truth, its interface, and its storage."""
