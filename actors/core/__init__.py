"""The pure heart of the Scheduler: no clock, thread, file, random or log. Everything comes in as an argument."""
