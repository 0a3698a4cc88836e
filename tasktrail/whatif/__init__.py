"""What-if: the Scheduler's own step, replayed over a log under its own policy or another. Only `ask` is not pure."""
