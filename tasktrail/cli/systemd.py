"""What the service tells systemd where a unit of `Type=notify` or `notify-reload` starts it; see sd_notify(3)."""

import os
import socket
import time
from contextlib import suppress


def tell_systemd(*lines: str) -> None:
    """Send lines such as `READY=1`. Without systemd nothing happens."""
    address = os.environ.get("NOTIFY_SOCKET", "")
    if not address:
        return
    with suppress(OSError), socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as notify:
        notify.connect(f"\0{address[1:]}" if address.startswith("@") else address)
        notify.sendall("\n".join(lines).encode())


def tell_reloading() -> None:
    """Say that the configuration is being read again; `READY=1` ends it."""
    tell_systemd("RELOADING=1", f"MONOTONIC_USEC={time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000}")
