"""The web pages that show a running service in a browser."""
