"""Pictures: small ones, and other ones."""
