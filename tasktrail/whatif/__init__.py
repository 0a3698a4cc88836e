"""What-if: the Scheduler's own step, replayed over a recorded log under its own policy or another one. All but `ask` is pure."""
