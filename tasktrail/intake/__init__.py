"""Commands on their way to the Scheduler: made, looked over, refused with a reason."""
