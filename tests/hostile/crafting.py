"""What a crafted file is, and a trap for programs that follow an address in one."""

import socket
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple, TypeAlias

SECRET_TEXT = "the-planted-secret-7f3a"


class Bait(NamedTuple):
    """What crafted files name in the hope that a program follows."""

    secret: Path
    """A file outside of the inputs."""
    trap: str
    """http://127.0.0.1:PORT of a server that no program must ever reach."""


Make: TypeAlias = Callable[[Path, Bait], None]


class Crafted(NamedTuple):
    """A file made to do harm. `make` writes it to the given path."""

    name: str
    """File name; its suffix is part of the disguise."""
    family: str
    make: Make


class Trap:
    """A server on loopback that counts its visitors."""

    def __init__(self) -> None:
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.visits: list[str] = []
        self.url = f"http://127.0.0.1:{self._socket.getsockname()[1]}"
        threading.Thread(target=self._watch, name="trap", daemon=True).start()

    def _watch(self) -> None:
        while True:
            try:
                visitor, address = self._socket.accept()
            except OSError:
                return
            self.visits.append(str(address))
            visitor.close()

    def close(self) -> None:
        self._socket.close()


@contextmanager
def open_trap() -> Iterator[Trap]:
    trap = Trap()
    try:
        yield trap
    finally:
        trap.close()


def text(content: str) -> Make:
    """Writes `content`, with {secret} and {trap} filled in."""

    def make(path: Path, bait: Bait) -> None:
        path.write_text(content.replace("{secret}", str(bait.secret)).replace("{trap}", bait.trap))

    return make


def data(content: bytes) -> Make:
    """Writes `content`."""

    def make(path: Path, _bait: Bait) -> None:
        path.write_bytes(content)

    return make


def cut(make_whole: Make, share: float) -> Make:
    """The first part of a valid file."""

    def make(path: Path, bait: Bait) -> None:
        make_whole(path, bait)
        whole = path.read_bytes()
        path.write_bytes(whole[: int(len(whole) * share)])

    return make
