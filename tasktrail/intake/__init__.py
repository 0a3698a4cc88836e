"""A command on its way to the Scheduler: made of plain values, examined, or refused with a reason."""
