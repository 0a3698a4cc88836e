"""The actors of the service: scheduler, worker pool, resource monitor, notifier, projector, and their supervisor."""
