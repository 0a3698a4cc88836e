"""Files elsewhere: a process of its own, the mover, fetches and stores their bytes."""
