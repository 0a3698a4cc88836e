"""What the machine and its container allow, and what is free of it."""
