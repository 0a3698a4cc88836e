"""Names to addresses, in bounded time. The system's resolver cannot be interrupted, so a thread is left waiting for it.

At most `AT_ONCE` threads are ever left: beyond that no name is looked up until one of them is back.
"""

import queue
import socket
import threading
from collections.abc import Callable
from typing import TypeAlias

import psutil

Resolve: TypeAlias = Callable[[str, int], list[str]]
"""(host, port) → addresses. Raises OSError."""

AT_ONCE = 16


def resolve(host: str, port: int) -> list[str]:
    """Ask the system's resolver, each address once."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


class BoundedResolver:
    """Looks names up with a time limit. One object for all threads."""

    def __init__(self, resolve: Resolve = resolve, *, at_once: int = AT_ONCE) -> None:
        self._resolve = resolve
        self._places = threading.BoundedSemaphore(at_once)

    def __call__(self, host: str, port: int, within: float) -> list[str]:
        """The addresses. Raises OSError, also when it takes longer than `within` seconds."""
        if not self._places.acquire(blocking=False):
            raise OSError("Too many names are being looked up")
        answer: queue.SimpleQueue[list[str] | Exception] = queue.SimpleQueue()
        threading.Thread(target=self._look_up, args=(host, port, answer), name="resolve", daemon=True).start()
        try:
            found = answer.get(timeout=max(0.0, within))
        except queue.Empty:
            raise OSError("The name was not resolved in time") from None
        if isinstance(found, Exception):
            raise found
        return found

    def _look_up(self, host: str, port: int, answer: "queue.SimpleQueue[list[str] | Exception]") -> None:
        try:
            answer.put(self._resolve(host, port))
        except OSError as error:
            answer.put(error)
        except Exception as error:  # noqa: BLE001 - odd names raise odd errors (idna); whoever waits must hear of it
            answer.put(OSError(f"The name cannot be looked up: {type(error).__name__}"))
        finally:
            self._places.release()


def own_addresses() -> frozenset[str]:
    """The addresses of this machine's interfaces."""
    return frozenset(
        address.address.partition("%")[0] for addresses in psutil.net_if_addrs().values() for address in addresses
    )
