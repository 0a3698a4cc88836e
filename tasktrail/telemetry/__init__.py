"""Numbers and traces of a running service, for the tools that watch it."""
