"""How one notice reaches its receiver, and which notice may go now."""
