"""The worker process: it runs attempts, watches them and reports their ends."""
