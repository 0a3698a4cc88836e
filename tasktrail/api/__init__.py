"""Questions on their way: answered by the views, the log, or the running Scheduler."""
