"""What lies where in a data folder."""

from pathlib import Path

from .events.errors import InvalidPath, ServiceUnreachable
from .events.log.lock import holder, role

NO_SOCKET = {"run": "`tasktrail run`", "program": "A program that has opened it with TaskService"}
"""Who may hold a data folder and never takes commands of others, in words."""


class DataPaths:
    """The files of one data folder. Only `log` is the truth; `views` and `snapshots` may be deleted."""

    def __init__(self, data: Path, temp_dir: Path | None = None) -> None:
        self.data = data.absolute()
        self.log = self.data / "log.db"
        self.views = self.data / "views.db"
        self.snapshots = self.data / "snapshots"
        self.output = self.data / "output"
        self.lock = self.data / "lock"
        self.workers_lock = self.data / "workers.lock"
        self.socket = self.data / "tasktrail.sock"
        self.http_token = self.data / "http-token"
        self.config = self.data / "tasktrail.toml"
        self.temp = (temp_dir or self.data / "tmp").absolute()

    def protected(self) -> tuple[str, ...]:
        """The folders that no attempt may reach, but for what it is granted there by name: real paths."""
        return tuple(dict.fromkeys(str(folder.resolve()) for folder in (self.data, self.temp)))

    def no_service(self) -> ServiceUnreachable:
        """The error that says that no service answers here, and who has the folder instead."""
        pid, who = holder(self.lock), NO_SOCKET.get(role(self.lock), "")
        if pid is None or not who:
            return ServiceUnreachable(f"No service runs on {self.data}")
        return ServiceUnreachable(
            f"{who} (pid {pid}) holds {self.data} and takes no commands of others",
            remedy="Wait until it has ended, or stop it and start `tasktrail serve`, which works for all.",
        )

    def make(self) -> None:
        """Create the folders, readable by the owner only. Raises `InvalidPath`."""
        for folder in (self.data, self.temp):
            try:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise InvalidPath(
                    f"The folder {folder} cannot be made: {error.strerror}",
                    remedy="Choose another data folder (--data or TASKTRAIL_DATA), or correct its permissions.",
                ) from error
