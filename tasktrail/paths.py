"""The files of a data folder: their paths, a name for its socket, and permissions that keep other users out."""

import errno
import os
import pwd
import re
import stat
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import Self

from .errors import ListenFailed
from .events.errors import InvalidPath, ServiceUnreachable
from .events.existence import exists, is_dir
from .events.log.address import NAME as ADDRESS_FILE
from .events.log.archives import folder_of
from .events.log.files import PRIVATE_FILE, PRIVATE_FOLDER
from .events.log.lock import holder, role, unopened
from .events.values import in_words

NO_SOCKET = {
    "run": "`tasktrail run`",
    "standby": "A standby",
    "program": "A program that has opened it with TaskService",
}
"""Role → the name of a program that may hold a data folder but takes no commands of others."""


def path_of(value: object, field: str) -> Path:
    """Return the value as a path. Raises `InvalidPath` with the argument's name if it cannot be one or is too long."""
    if not isinstance(value, str | os.PathLike):
        raise InvalidPath(
            f"{field} has to be a path, not {in_words(value)}", field=field, remedy="Give text or a Path."
        )
    if value == "":  # a `Path` of it would be the current folder
        raise InvalidPath(
            f"{field} is empty", field=field, remedy="Was a variable not set? The current folder is called '.'."
        )
    try:
        possible = b"\0" not in os.fsencode(value)
    except UnicodeEncodeError:  # half a surrogate pair
        possible = False
    if not possible:
        raise InvalidPath(
            f"{field} holds a character that no file can have in its name: {in_words(str(value))}",
            field=field,
            remedy="Give the name that the file has.",
        )
    path = Path(value)
    try:
        os.lstat(path)  # only the file system knows how long a name may be
    except OSError as error:
        if error.errno == errno.ENAMETOOLONG:
            raise InvalidPath(
                f"{field} can be no path: {error.strerror}: {path}",
                field=field,
                remedy="Give a shorter path, whose names are shorter, too.",
            ) from error
    return path


def user_name(user: int) -> str:
    """Return the user's name, or the number if the user has no name."""
    try:
        return pwd.getpwuid(user).pw_name
    except KeyError:
        return str(user)


class DataPaths:
    """The files of one data folder. Only `log` is the truth; `views` and `snapshots` may be deleted."""

    def __init__(self, data: Path, temp_dir: Path | None = None, address: str = "") -> None:
        """`address`: the log's address, if the configuration says that it is on PostgreSQL."""
        try:
            self.data = data.absolute()
        except FileNotFoundError as error:
            raise InvalidPath(
                f"The current folder is not there any more, in which {in_words(str(data))} would be",
                remedy="Change into a folder that is there, or name the data folder by its whole path.",
            ) from error
        on_postgresql = self.data / ADDRESS_FILE
        is_there = os.path.exists(on_postgresql)  # noqa: PTH110 - never raises: the folder may be closed to this user
        self.log = on_postgresql if address or is_there else self.data / "log.db"
        self.archive = folder_of(self.log)
        self.views = self.data / "views.db"
        self.seals = self.data / "seals"
        self.seal_key = self.data / "seal-key"
        self.witnesses = self.data / "witnesses.json"
        self.snapshots = self.data / "snapshots"
        self.output = self.data / "output"
        self.pictures = self.data / "pictures"
        self.lock = self.data / "lock"
        self.workers_lock = self.data / "workers.lock"
        self.hosts = self.data / "hosts.json"
        self.erasing = self.data / "erasing"
        self.socket = self.data / "tasktrail.sock"
        self.http_token = self.data / "http-token"
        self.http_sessions = self.data / "http-sessions"
        self.config = self.data / "tasktrail.toml"
        self.temp = (temp_dir or self.data / "tmp").absolute()

    def protected(self) -> tuple[str, ...]:
        """Return the real paths of folders that no attempt may reach, except for files that are granted by name."""
        return tuple(dict.fromkeys(str(folder.resolve()) for folder in (self.data, self.temp)))

    def no_service(self) -> ServiceUnreachable:
        """Return the error for a folder on which no service answers. It names the program that has it, if any does."""
        pid, what = holder(self.lock), role(self.lock)
        if pid is not None and what == "serve":
            return ServiceUnreachable(
                f"The service on {self.data} (pid {pid}) does not answer: it is starting or stopping",
                remedy="`tasktrail serve` prints `ready` once it answers: try again then.",
            )
        who = NO_SOCKET.get(what, "")
        if pid is None or not who:
            return ServiceUnreachable(f"No service runs on {self.data}")
        if what == "standby":
            return ServiceUnreachable(
                f"{who} (pid {pid}) waits on {self.data}: it takes no commands before it has the log",
                remedy="Send them to the service that has the log: with its data folder, or with --url.",
            )
        return ServiceUnreachable(
            f"{who} (pid {pid}) holds {self.data} and takes no commands of others",
            remedy="Wait until it has ended, or stop it and start `tasktrail serve`, which works for all.",
        )

    def refuse_unusable(self) -> None:
        """Raise `InvalidPath` if the path is not UTF-8, is a file, leads through a broken link, or is closed to us."""
        self._refuse_other_bytes()
        try:
            status = self.data.stat()
            owner = user_name(status.st_uid)
        except PermissionError:  # not even the way to it is open
            owner = "another user"
        except FileNotFoundError:
            self._refuse_broken_link()
            return
        except OSError:
            return
        else:
            if not stat.S_ISDIR(status.st_mode):
                raise InvalidPath(
                    f"The data folder {self.data} is a file, and no folder",
                    field="data",
                    remedy="Choose another data folder (--data or TASKTRAIL_DATA), or move that file away.",
                )
            if os.access(self.data, os.R_OK | os.X_OK):
                return
        raise InvalidPath(
            f"The data folder {self.data} is {owner}'s, and {user_name(os.geteuid())} may not look into it",
            field="data",
            remedy="Do this as its owner (`runuser -u NAME …`), or ask the service at its port, by --url and a token.",
        )

    def refuse_foreign(self) -> None:
        """Raise `InvalidPath` if the folder is neither this user's nor root's, nor that of the user of `sudo`.

        For a folder that was not named: where all may write, as in `/tmp`, another user may have made it, and its
        configuration names modules to load.
        """
        sudo = os.environ.get("SUDO_UID", "")
        trusted = {0, os.geteuid(), int(sudo) if sudo.isdecimal() else 0}
        with suppress(OSError):
            owners = {self.data.lstat().st_uid, self.data.stat().st_uid} - trusted
            if owners:
                raise InvalidPath(
                    f"The data folder {self.data} was found here, and is {user_name(owners.pop())}'s",
                    field="data",
                    remedy="If you trust it, name it: --data or TASKTRAIL_DATA.",
                )

    def _refuse_other_bytes(self) -> None:
        """Raise `InvalidPath` if the path is not UTF-8: SQLite reports paths as UTF-8, the locale perhaps otherwise."""
        try:
            shown = os.fsencode(self.data).decode(errors="backslashreplace")
        except UnicodeEncodeError:  # no file can have this name here
            shown = ascii(str(self.data))[1:-1]
        if shown != str(self.data):
            raise InvalidPath(
                f"The path of the data folder '{shown}' is not UTF-8 here",
                field="data",
                remedy="Rename the folder that has other bytes in its name, or choose another data folder (--data or "
                "TASKTRAIL_DATA). If the locale is not UTF-8, set PYTHONUTF8=1.",
            )

    def _refuse_broken_link(self) -> None:
        """Raise `InvalidPath` if the path leads through a link to nowhere: no folder can be made there."""
        for place in (self.data, *self.data.parents):
            if place.is_symlink() and not exists(place):
                raise InvalidPath(
                    f"{place} is a link to {place.readlink()}, which does not exist",
                    field="data",
                    remedy="If that is on another disk, mount it; otherwise make that folder, or remove the link.",
                )

    def make(self) -> None:
        """Create the folders, readable by the owner only. Raises `InvalidPath`."""
        self.refuse_unusable()
        for folder in (self.data, self.temp):
            try:
                folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            except OSError as error:
                raise InvalidPath(
                    f"The folder {folder} cannot be made: {error.strerror}",
                    remedy="Choose another data folder (--data or TASKTRAIL_DATA), or correct its permissions.",
                ) from error


MAX_UNIX_PATH = 107 if os.uname().sysname == "Linux" else 103
"""The most bytes that the operating system takes as the name of a Unix socket."""
_DESCRIPTORS = Path("/proc/self/fd")


class UnixName:
    """A short enough name for a Unix socket, valid while this object is open.

    A long path is reached through a descriptor of its folder, which Linux shows under /proc.
    """

    def __init__(self, path: Path) -> None:
        self._folder: int | None = None
        self.text = str(path)
        if len(os.fsencode(self.text)) <= MAX_UNIX_PATH:
            return
        if not is_dir(_DESCRIPTORS):
            raise ListenFailed(
                f"The path of the socket is longer than {MAX_UNIX_PATH} bytes",
                field="data",
                remedy="Use a data folder with a shorter path.",
            )
        self._folder = os.open(path.parent, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self.text = str(_DESCRIPTORS / str(self._folder) / path.name)

    def close(self) -> None:
        """Close the folder's descriptor."""
        if self._folder is not None:
            os.close(self._folder)
            self._folder = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


# --- permissions ----------------------------------------------------------------------------------------------


_OTHERS = 0o077
_FILES = re.compile(
    r"\.?(log|views)\.(db|postgresql).*|lock|workers\.lock|\.?tasktrail\.sock.*|\.?http-(token|sessions).*|tasktrail\.toml|seal-key|keys\.db.*|\.?master-key.*|accepted-loss\.json.*"
    r"|\.?witnesses\.json.*|hosts\.json.*|erasing"
)
_FOLDERS = re.compile(r"archive|snapshots|output|pictures|tmp|seals|replaced-\d{8}T\d+Z")
_TASKS_OWN = re.compile(r"\d+")


def loose(paths: DataPaths) -> Iterator[Path]:
    """Yield tasktrail's files and folders that other users may reach, the data folder and the temp folder first.

    Each of these two is left out if it also holds other things (a home, `/tmp`, `/`). So are links, devices and pipes,
    and everything that belongs to another user.
    """
    for folder in dict.fromkeys((paths.data, paths.temp)):
        if _is_loose(folder) and not _is_shared_with_others(folder, paths):
            yield folder
    for path in _own_paths(paths):
        if _is_loose(path):
            yield path


def close_to_others(paths: DataPaths) -> None:
    """Set files to 0600 and folders to 0700. What cannot be changed stays as it is, and `doctor` reports it.

    Raises `InvalidPath` for a folder of ours in which this user may not look.
    """
    try:
        found = list(loose(paths))
    except OSError as error:
        raise unopened(Path(error.filename), error) from error
    for path in found:
        mode = PRIVATE_FOLDER if is_dir(path) else PRIVATE_FILE
        with suppress(OSError):
            try:
                # Another user may have put a link there meanwhile. Nothing is opened: closing a file again would drop
                # the locks that SQLite has on it.
                os.chmod(path, mode, follow_symlinks=False)  # noqa: PTH101 - Path.chmod follows links on Linux
            except NotImplementedError:  # it is a link, or an old C library cannot leave links alone
                if not path.is_symlink():
                    path.chmod(mode)


def give_to_owner(paths: DataPaths) -> None:
    """Give the files that root has just made in another user's data folder to its owner, who works on it next.

    The owner may have put anything there meanwhile. So a file is given away only if no symbolic link leads to it and
    it has no second hard link.
    """
    owner = paths.data.stat()
    if os.geteuid() != 0 or owner.st_uid == 0:
        return
    shared = _is_shared_with_others(paths.data, paths)
    ours = [path for path in _entries(paths.data) if _is_own(path) and path != paths.config]
    own = {path.name for path in ours if not shared or not is_dir(path) or path.name.startswith("replaced-")}
    for folder, folders, files, here in os.fwalk(paths.data, follow_symlinks=False):
        if Path(folder) == paths.data:
            folders[:], files[:] = own.intersection(folders), own.intersection(files)
        for name in (*folders, *files):
            try:
                opened = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=here)
            except OSError:  # a socket, a link, or gone
                continue
            try:
                status = os.fstat(opened)
                alone = stat.S_ISREG(status.st_mode) and status.st_nlink == 1
                if status.st_uid == 0 and (alone or stat.S_ISDIR(status.st_mode)):
                    os.fchown(opened, owner.st_uid, owner.st_gid)
            finally:
                os.close(opened)


def foreign(paths: DataPaths) -> Iterator[Path]:
    """Yield what lies in the data folder but belongs to another user than the folder does."""
    try:
        owner = paths.data.stat().st_uid
    except OSError:
        return
    for path in _own_paths(paths):
        with suppress(OSError):
            if path != paths.config and path.lstat().st_uid != owner:  # the configuration is only read
                yield path


def is_shared(paths: DataPaths) -> bool:
    """Whether others may look into the data folder. It is left open because it also holds other things."""
    return _is_loose(paths.data) and _is_shared_with_others(paths.data, paths)


def _is_loose(path: Path) -> bool:
    try:
        status = path.lstat()
    except OSError:
        return False
    plain = stat.S_ISREG(status.st_mode) or stat.S_ISDIR(status.st_mode) or stat.S_ISSOCK(status.st_mode)
    return plain and status.st_uid == os.geteuid() and bool(status.st_mode & _OTHERS)


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except OSError:
        return []


def _is_own(path: Path) -> bool:
    return bool((_FOLDERS if is_dir(path) and not path.is_symlink() else _FILES).fullmatch(path.name))


def _is_shared_with_others(folder: Path, paths: DataPaths) -> bool:
    if folder == paths.data:
        return any(not _is_own(path) and path != paths.temp for path in _entries(folder))
    return any(not _TASKS_OWN.fullmatch(path.name) for path in _entries(folder))


def _own_paths(paths: DataPaths) -> Iterator[Path]:
    """Yield tasktrail's files and folders in the data folder and the temp folder, without the content of work folders.

    Folders of a shared data folder are left out: one with a name as plain as `output` may be another program's.
    """
    shared = _is_shared_with_others(paths.data, paths)
    for path in _entries(paths.data):
        if not _is_own(path) or path in (paths.temp, paths.data / "tmp"):
            continue
        if not is_dir(path):
            yield path
        elif not shared:
            yield path
            yield from _below(path)
    yield from (path for path in _entries(paths.temp) if is_dir(path) and _TASKS_OWN.fullmatch(path.name))


def _below(folder: Path) -> Iterator[Path]:
    for path in _entries(folder):
        yield path
        if is_dir(path) and not path.is_symlink():
            yield from _below(path)
