"""What-if: replays the Scheduler's own step over a log, under its own policy or another. Only `ask` is not pure."""
