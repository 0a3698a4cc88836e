"""What this machine can do for tasktrail, and what to do about the rest."""
