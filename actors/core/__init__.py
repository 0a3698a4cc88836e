"""The Scheduler's decisions. Deterministic: no clock, thread, file, random number or log; all is an argument."""
