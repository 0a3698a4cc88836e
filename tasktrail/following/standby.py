"""A standby: keeps views and snapshots near the end of another service's log, and says when it may take it over.

It appends nothing and runs nothing. To take over is to start a service, which has little left to fold.
"""

from ..config.settings import Config
from ..paths import DataPaths
from .follower import Follower


class Standby:
    """Holds the data folder while it waits; `close` lets go of it, so that a service can have it."""

    def __init__(self, paths: DataPaths, config: Config) -> None:
        """Raises `ConfigurationError` for a log in a file, and what a start raises."""
        self._follower = Follower(paths, config, "standby")
        from ..events.log.postgresql.watch import OwnerWatch

        try:
            self._follower.settle()
            self._watch = OwnerWatch(paths.log)
        except BaseException:
            self._follower.close()
            raise

    def start(self) -> None:
        """Follow the log while it waits. Not before the first look: who may take over at once has to follow nothing."""
        self._follower.start()

    def may_take_over(self) -> bool:
        """Whether no service has the log any more. To be asked often."""
        return self._watch.is_free()

    def close(self) -> None:
        """Follow no more, and let go of the data folder."""
        self._follower.close(self._watch.close)
