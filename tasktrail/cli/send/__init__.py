"""Commands that ask for something to happen to tasks."""
