"""Sends notices to configured targets: chat, push and all else that Apprise reaches, each in a process of its own."""

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Mapping
from contextlib import suppress
from importlib.util import find_spec
from typing import Any

import msgspec

from ...events.errors import ConfigurationError
from ...projections.notices import Notice
from ..secret import Secret
from ..workers.worker_process import worker_environment
from .attempt import Deadline, Result, brief
from .mail import notice_text

CHECK_WITHIN = 60.0
"""Seconds that checking all addresses may take: Apprise has to load its plugins."""

_COMMAND = (sys.executable, "-P", "-m", "tasktrail.actors.delivery.apprise_process")
_LONGEST_LINE = 300
"""Chat services take short messages."""
_KINDS = {"completed": "success", "failed": "failure", "cancelled": "warning", "retried": "warning"}


class _Answer(msgspec.Struct, frozen=True, kw_only=True):
    """See `apprise_process`."""

    ok: bool = False
    status: int | None = None
    useless: tuple[str, ...] = ()
    """Names whose address Apprise cannot use."""


class TargetSender:
    """Hands notices to Apprise. One object serves all threads; every delivery has a process of its own.

    Args:
        targets: name → address. The operator configures them, so any address is allowed.
    """

    def __init__(self, targets: Mapping[str, Secret]) -> None:
        self._targets = targets

    def send(self, notice: Notice, deadline: Deadline) -> Result:
        """Deliver, and return the result."""
        url = self._targets.get(notice.target)
        if url is None:
            return Result(ok=False, detail="no target of that name is configured")
        message = {
            "url": url.reveal(),
            "title": brief(f"Task {notice.task_id} ({notice.task['type']}) {notice.event}", 200),
            "body": f"{notice_text(notice, _LONGEST_LINE)}Notice:    {notice.notice_id}",
            "kind": _KINDS.get(notice.event, "info"),
        }
        answer = _ask({"send": message}, deadline.seconds, deadline.at_end)
        return classify(answer, deadline)


def classify(answer: _Answer | None, deadline: Deadline) -> Result:
    """The result of a delivery, in our own words: Apprise's may hold parts of the address."""
    if answer is None:
        late = f"not delivered within {deadline.seconds:g} s"
        return Result(ok=False, detail=late if deadline.cut else "the process that delivers it has failed")
    if answer.ok:
        return Result(ok=True, detail="taken by the target", answered=True)
    if answer.status is not None:
        return Result(ok=False, detail=f"the target answered HTTP {answer.status}", answered=True)
    return Result(ok=False, detail="the target did not take it, or could not be reached")


def check_targets(targets: Mapping[str, Secret]) -> None:
    """Raises ConfigurationError if a target cannot work."""
    if not targets:
        return
    if find_spec("apprise") is None:
        raise ConfigurationError(
            "Targets are configured ([apprise]), but the package apprise is not installed",
            field="apprise",
            remedy="Install tasktrail[apprise], or take the targets out of the configuration.",
        )
    answer = _ask({"check": {name: url.reveal() for name, url in targets.items()}}, CHECK_WITHIN)
    if answer is None:
        raise ConfigurationError("Apprise cannot be loaded", field="apprise", remedy="Install it again.")
    if answer.useless:
        name = answer.useless[0]
        raise ConfigurationError(
            f"apprise.{name} has a bad value: allowed is one address that Apprise understands",
            field=f"apprise.{name}",
            remedy="`apprise --details` lists the forms of addresses.",
        )


def _ask(
    question: dict[str, Any], seconds: float, at_end: Callable[[Callable[[], None]], None] | None = None
) -> _Answer | None:
    """Ask the process, and return its answer; None if it ended, or was ended, before it answered."""
    content = msgspec.json.encode({**question, "seconds": int(seconds) + 1})
    process = subprocess.Popen(
        _COMMAND,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        cwd="/",
        env=worker_environment((), (), os.environ),
        start_new_session=True,
    )
    with process:
        if at_end is not None:
            at_end(lambda: _end(process))
        try:
            output, _ = process.communicate(content, timeout=seconds + 1)
        except subprocess.TimeoutExpired:
            return None
        finally:
            _end(process)
    try:
        return msgspec.json.decode(output, type=_Answer)
    except msgspec.DecodeError:
        return None


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Kill the process with all that it started, unless it has ended: then another process may have its number."""
    if process.poll() is None:
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
