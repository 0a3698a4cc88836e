"""A standby: keeps views and snapshots near the end of another service's log, and says when it may take it over.

It appends nothing and runs nothing. To take over is to start a service, which has little left to fold.
"""

from ..config.settings import Config
from ..paths import DataPaths
from .follower import Follower


class Standby:
    """Holds the data folder while it waits; `close` releases it, so that a service can have it."""

    def __init__(self, paths: DataPaths, config: Config) -> None:
        """Raises `ConfigurationError` for a log in a file, and the errors of a start."""
        self._follower = Follower(paths, config, "standby")
        from ..events.log.postgresql.watch import OwnerWatch

        try:
            self._follower.settle()
            self._watch = OwnerWatch(paths.log)
        except BaseException:
            self._follower.close()
            raise

    def start(self) -> None:
        """Follow the log while waiting. Call it after the first `may_take_over`: if that is true, it is not needed."""
        self._follower.start()

    def may_take_over(self) -> bool:
        """Whether no service has the log any more. Ask this often."""
        return self._watch.is_free()

    def close(self) -> None:
        """Stop following, and release the data folder."""
        self._follower.close(self._watch.close)
