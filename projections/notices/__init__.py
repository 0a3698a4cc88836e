"""Which notices follow from the log, and what became of each."""
