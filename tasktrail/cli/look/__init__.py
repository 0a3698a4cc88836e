"""Commands that show tasks, the queue, the past and the reasons."""
