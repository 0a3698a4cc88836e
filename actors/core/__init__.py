"""The Scheduler's decisions. They are deterministic: no clock, thread, file, random number or log, only arguments."""
