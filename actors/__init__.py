"""Who does it and when: scheduler, worker pool, resource monitor, notifier, projector, and their supervisor."""
