"""Commands that run tasks here: one to its end, a service, the demo."""
