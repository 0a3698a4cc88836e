"""Commands that check the log, the views and the machine."""
