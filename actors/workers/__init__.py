"""Worker processes: starts them, gives them attempts, watches them, and cleans up after them."""
