"""One task's past, told for a person."""
