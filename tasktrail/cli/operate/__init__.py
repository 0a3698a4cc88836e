"""Commands for whoever looks after the service: pauses, limits, schedules, notices."""
