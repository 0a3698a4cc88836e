"""The configuration: what can be set, what it means, where it is read from."""
