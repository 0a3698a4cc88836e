"""`Client`: the methods of `TaskService`, answered by a service in another process."""

from .client import Client

__all__ = ["Client"]
