"""No test reaches beyond this machine: neither by a mistake of its own nor by one of what it tests."""

import sys
from ipaddress import ip_address
from typing import Any

left_home: list[object] = []
"""Addresses and names that the running test has tried to reach."""


def _watch(event: str, arguments: tuple[Any, ...]) -> None:
    match event:
        case "socket.connect" | "socket.sendto":
            wanted = arguments[1]
            host = wanted[0] if isinstance(wanted, tuple) else None  # a Unix socket has a path
        case "socket.getaddrinfo":
            wanted = host = arguments[0]
        case _:
            return
    if not _is_here(host, asked=event == "socket.getaddrinfo"):
        left_home.append(wanted)
        raise ConnectionRefusedError(f"tests stay on this machine: {wanted!r}")


def _is_here(host: str | bytes | None, *, asked: bool) -> bool:
    """Whether the host is this machine; to ask what a number means reaches nobody."""
    name = host.decode() if isinstance(host, bytes) else host
    if not name or name == "localhost":
        return True
    try:
        address = ip_address(name.partition("%")[0])
    except ValueError:
        return False
    return asked or address.is_loopback


def watch() -> None:
    """For the rest of this process: Python lets nobody take such a hook away again."""
    sys.addaudithook(_watch)
