"""The process that hands one message to Apprise, which may wait for any time: only a process can be ended.

One JSON object comes in, one goes out. Addresses hold secrets, so they come through the pipe and not as arguments. Of
Apprise's answer only success and an HTTP status go back.
"""

import json
import os
import re
import resource
import signal
import sys
from typing import Any

import apprise

MAX_MEMORY = 512 * 1024**2
"""Bytes of address space: an endless answer must not take the machine's memory."""

_STATUS = re.compile(r"\berror=(\d{3})\b")


def main() -> None:
    """Do what standard input asks for: send a message, or report which addresses are of no use."""
    # Plugins may print; the answer goes where they cannot reach.
    answer = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    asked: dict[str, Any] = json.load(sys.stdin)
    signal.alarm(asked["seconds"])  # ends this process even if the service is gone by then
    resource.setrlimit(resource.RLIMIT_AS, (MAX_MEMORY, MAX_MEMORY))
    with answer:
        json.dump(send_message(asked["send"]) if "send" in asked else {"useless": useless(asked["check"])}, answer)


def useless(addresses: dict[str, str]) -> list[str]:
    """The names whose address does not stand for exactly one service of Apprise."""
    return [name for name, url in addresses.items() if _apprise_for(url) is None]


def send_message(message: dict[str, str]) -> dict[str, Any]:
    """Hand it over once. `status` is the HTTP status with which a service refused it, if there was one."""
    service = _apprise_for(message["url"])
    if service is None:
        return {"ok": False}
    result = service.notify(message["body"], message["title"], message["kind"], body_format="text")
    attempts = [attempt for one in result for attempt in one]
    statuses = [match[1] for one in result for entry in one.logs() if (match := _STATUS.search(entry.message))]
    # The attempt counts, not the result: an address may say that its failures count as success.
    return {"ok": bool(attempts and attempts[-1]), "status": int(statuses[-1]) if statuses else None}


def _apprise_for(url: str) -> apprise.Apprise | None:
    """An Apprise object with the one service of an address; None if it stands for no service, or for several.

    It uses no thread and no disk, and follows no redirect unless the address asks for it. The caller bounds its time.
    """
    asset = apprise.AppriseAsset(
        app_id="tasktrail",
        async_mode=False,
        http_redirects=False,
        pem_autogen=False,
        pgp_autogen=False,
        service_timeout=0,
        storage_mode="memory",
    )
    service = apprise.Apprise(asset=asset)
    return service if service.add(url) and len(service) == 1 else None


if __name__ == "__main__":
    main()
