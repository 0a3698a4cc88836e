"""Sockets to listen on and to connect to, and the errors when they cannot be had."""

import ipaddress
import os
import socket
from contextlib import suppress
from pathlib import Path

from ..errors import ListenFailed
from ..paths import UnixName

_BACKLOG = 4096


def listen_unix(path: Path) -> socket.socket:
    """Listen at `path`, readable and writable for the owner only; a socket that a dead service left is replaced.

    The socket appears under its name only when it is complete: it is made beside it and moved there.
    """
    if path.exists() and not path.is_socket():
        raise ListenFailed(f"{path} is in the way: it is not a socket", remedy="Move it elsewhere.")
    making = path.with_name(f".{path.name}.{os.getpid()}")
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        making.unlink(missing_ok=True)
        with UnixName(making) as name:
            listener.bind(name.text)
        making.chmod(0o600)
        listener.listen(_BACKLOG)
        making.replace(path)
    except OSError as error:
        listener.close()
        making.unlink(missing_ok=True)
        raise ListenFailed(f"{path} cannot be listened on: {error.strerror or error}") from error
    except BaseException:
        listener.close()
        raise
    return listener


def identity(path: Path) -> tuple[int, int]:
    """Tells one file under a name from the next."""
    status = path.stat()
    return status.st_dev, status.st_ino


def remove_unix(path: Path, made: tuple[int, int]) -> None:
    """Remove the socket, unless another service has put its own there."""
    with suppress(OSError):
        if identity(path) == made:
            path.unlink()


def listen_tcp(host: str, port: int) -> socket.socket:
    """Listen on a loopback address. Raises `ListenFailed`."""
    address = loopback(host)
    family = socket.AF_INET6 if ":" in address else socket.AF_INET
    # asyncio turns delays by Nagle's algorithm off only for sockets that say they are TCP: 40 ms an answer.
    listener = socket.socket(family, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    try:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((address, port))
        listener.listen(_BACKLOG)
    except (OSError, OverflowError) as error:
        listener.close()
        raise ListenFailed(f"Port {port} of {host} cannot be listened on: {error}", field="port") from error
    return listener


def loopback(host: str) -> str:
    """The numeric address. Raises `ListenFailed` for one that other machines can reach."""
    try:
        address = ipaddress.ip_address("127.0.0.1" if host == "localhost" else host.strip("[]"))
    except ValueError:
        address = None
    if address is None or not address.is_loopback:
        raise ListenFailed(
            f"{host!r} is no loopback address: without tokens only this machine may connect",
            field="host",
            remedy="Use 127.0.0.1, ::1 or localhost, and a tunnel or proxy from elsewhere.",
        )
    return str(address)
