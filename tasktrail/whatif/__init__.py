"""What if: the Scheduler's own step played over a recorded log, as it was or under another policy. Pure."""
