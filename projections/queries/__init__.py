"""What is asked of the views, now and as of any earlier instant."""
