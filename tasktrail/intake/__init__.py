"""The way of a command to the Scheduler: made from plain values, examined, or refused with a reason."""
