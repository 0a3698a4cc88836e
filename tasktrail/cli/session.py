"""Who answers a command: the running service, the files alone, or a service of the command's own."""

from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from ..surface import Reading, Tasks

DEFAULT_DATA = Path("tasktrail-data")


class Session(msgspec.Struct, frozen=True, kw_only=True):
    """What was asked for on the command line, whatever the command."""

    doors: "Doors"
    data: Path = DEFAULT_DATA
    url: str = ""
    token: str = ""
    as_json: bool = False
    config: Path | None = None

    def tasks(self) -> "Tasks":
        """The running service. Raises `ServiceUnreachable`."""
        return self.doors.service(self)

    def reading(self) -> "Reading":
        """The running service, or the files when none runs on the data folder."""
        from ..events.errors import ServiceUnreachable

        try:
            return self.doors.service(self)
        except ServiceUnreachable:
            if self.url:
                raise
            return self.doors.files(self)


class Doors:
    """The three ways in. Tests put their own in place of these."""

    def service(self, session: Session) -> "Tasks":
        """A client of the running service. Raises `ServiceUnreachable`."""
        from ..client import Client

        if session.url:
            return Client(session.url, token=session.token)
        return Client.connect(session.data, token=session.token)

    def files(self, session: Session) -> "Reading":
        """A reader of the log and the views. Raises `UnknownFolder` rather than making an empty one."""
        from ..reading import Reader

        return Reader(session.data)

    def embedded(self, session: Session) -> "Tasks":
        """A service inside this process, for this command only."""
        from ..config import load_config
        from ..service import TaskService

        return TaskService.open(session.data, load_config(session.data, session.config))
