"""Files that are elsewhere: moving their bytes to this machine and away from it, in a process of its own."""
