"""Whether log and views are what they claim to be."""
