"""What can be wished and what has happened: commands, events, state, `decide`, `evolve`, and the log."""

from .task_events import Checkpoint

__all__ = ["Checkpoint"]
