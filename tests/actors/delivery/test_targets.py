"""Real deliveries by Apprise to a receiver on loopback, in a process that ends in time and reveals no secret."""

import contextlib
import json
import signal
import subprocess
import threading
from collections.abc import Callable
from typing import Any

import psutil
import pytest

from tasktrail.actors.delivery import targets as module
from tasktrail.actors.delivery.attempt import Deadline, Result
from tasktrail.actors.delivery.targets import TargetSender, check_targets
from tasktrail.actors.secret import Secret
from tasktrail.events.errors import ConfigurationError

WITHIN = 20.0
TOKEN = "canary7token"
PASSWORD = "canary7password"
DELIVERER = "tasktrail.actors.delivery.apprise_process"


def address(receiver: Any, more: str = "") -> str:
    return f"json://user:{PASSWORD}@127.0.0.1:{receiver.port}/{TOKEN}{more}"


@pytest.fixture
def tell(notice_to: Callable[..., Any]) -> Callable[..., Result]:
    """Send the target `team`, at an address, the notice of a completed task: `tell(url, within=20)`."""

    def deliver(url: str, within: float = WITHIN, **changes: Any) -> Result:
        notice = notice_to("team", channel="apprise", **changes)
        with Deadline(within) as deadline:
            result = TargetSender({"team": Secret(url)}).send(notice, deadline)
        assert not any(secret in result.detail for secret in (TOKEN, PASSWORD, "127.0.0.1"))
        return result

    return deliver


def test_a_target_is_told_in_a_few_words_that_name_the_notice(receiver: Any, tell: Callable[..., Result]) -> None:
    result = tell(address(receiver))
    assert result == Result(ok=True, detail="taken by the target", answered=True)
    (_, path, headers, content) = receiver.requests[0]
    said = json.loads(content)
    assert (path, headers["user-agent"]) == (f"/{TOKEN}", "tasktrail")
    assert (said["title"], said["type"]) == ("Task 42 (video_convert) completed", "success")
    assert "Output:    /out/a.mp4" in said["message"]
    assert said["message"].endswith("Notice:    0f0f0f0f0f0f-42-1-7-webhook")


@pytest.mark.parametrize("status", [302, 410, 500])
def test_an_answer_that_is_no_success_is_told_by_its_number_only(
    receiver: Any, tell: Callable[..., Result], status: int
) -> None:
    def answer(handler: Any) -> None:
        handler.send_response(status)
        handler.send_header("location", "/elsewhere")
        handler.send_header("content-length", "0")
        handler.end_headers()

    receiver.answer = answer
    result = tell(address(receiver, "?optional=yes"))
    assert result == Result(ok=False, detail=f"the target answered HTTP {status}", answered=True)
    assert [path for _, path, *_ in receiver.requests] == [f"/{TOKEN}"]


def test_nobody_there_is_a_failure_that_is_tried_again(receiver: Any, tell: Callable[..., Result]) -> None:
    url = address(receiver)
    receiver.close()
    assert tell(url) == Result(ok=False, detail="the target did not take it, or could not be reached")


def test_a_name_that_is_configured_no_more_waits_for_its_return(notice_to: Callable[..., Any]) -> None:
    with Deadline(WITHIN) as deadline:
        result = TargetSender({}).send(notice_to("team", channel="apprise"), deadline)
    assert result == Result(ok=False, detail="no target of that name is configured")


def hang(_handler: Any, released: threading.Event) -> None:
    released.wait()


def drip(handler: Any, released: threading.Event) -> None:
    handler.wfile.write(b"HTTP/1.1 200 OK\r\nx-slow: ")
    while not released.wait(0.02):
        handler.wfile.write(b"a")


@pytest.mark.slow
@pytest.mark.parametrize("way", [hang, drip])
def test_a_target_that_hangs_or_drips_is_cut_off_and_its_process_is_gone(
    receiver: Any, tell: Callable[..., Result], way: Callable[..., None]
) -> None:
    arguments: dict[psutil.Process, list[str]] = {}

    def answer(handler: Any) -> None:
        children = {one: one.cmdline() for one in psutil.Process().children()}  # another test may have left some
        arguments.update({one: told for one, told in children.items() if told[-1:] == [DELIVERER]})
        with contextlib.suppress(OSError):  # it is gone
            way(handler, receiver.released)

    receiver.answer = answer
    # Apprise's own limit for one read is 4 s; it must not be what ends the hanging one.
    result = tell(address(receiver, "?rto=60"), within=5)
    assert result == Result(ok=False, detail="not delivered within 5 s")
    ((process, told),) = arguments.items()
    assert not process.is_running()
    assert not any(TOKEN in part for part in told)


@pytest.mark.slow
def test_an_answer_without_end_does_not_take_the_memory(receiver: Any, tell: Callable[..., Result]) -> None:
    sent = 0

    def flood(handler: Any) -> None:
        nonlocal sent
        handler.send_response(500)
        handler.end_headers()
        with contextlib.suppress(OSError):  # it is gone
            while not receiver.released.is_set():
                sent += handler.wfile.write(b"x" * 1024**2)

    receiver.answer = flood
    assert not tell(address(receiver)).ok
    assert sent < 1024**3


def test_the_process_ends_by_itself_when_whoever_asked_is_gone(receiver: Any) -> None:
    receiver.answer = lambda _handler: receiver.released.wait()
    message = {"url": address(receiver, "?rto=60"), "title": "t", "body": "b", "kind": "info"}
    process = subprocess.Popen(module._COMMAND, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL)
    assert process.stdin is not None
    process.stdin.write(json.dumps({"send": message, "seconds": 2}).encode())
    process.stdin.close()
    assert process.wait(WITHIN) == -signal.SIGALRM


def test_no_proxy_of_the_environment_is_used(
    receiver: Any, tell: Callable[..., Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    assert tell(address(receiver)).ok


def test_the_time_is_that_of_the_delivery_and_not_of_the_start(receiver: Any, notice_to: Callable[..., Any]) -> None:
    """A deadline that has already passed ends the process at once."""
    with Deadline(60) as deadline:
        deadline.end()
        result = TargetSender({"team": Secret(address(receiver))}).send(notice_to("team", channel="apprise"), deadline)
    assert not result.ok
    assert receiver.requests == []


def test_addresses_that_mean_something_are_taken() -> None:
    check_targets(
        {"team": Secret("slack://T1JJ3T3L2/A1BRTD4JD/TIiajkdnlazkcOXrIdevi7FQ"), "ops": Secret("json://a.test")}
    )


@pytest.mark.parametrize("url", ["", "nope://a.test", f"slack://{TOKEN}", f"json://a.test/{TOKEN}, json://b.test"])
def test_an_address_that_means_nothing_is_refused_without_being_shown(url: str) -> None:
    with pytest.raises(ConfigurationError) as refused:
        check_targets({"ops": Secret("json://a.test"), "team": Secret(url)})
    assert refused.value.field == "apprise.team"
    assert TOKEN not in str(refused.value)


def test_without_the_package_it_is_said_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "find_spec", lambda _name: None)
    check_targets({})
    with pytest.raises(ConfigurationError, match=r"Install tasktrail\[apprise\]"):
        check_targets({"team": Secret("json://a.test")})


def test_a_package_that_cannot_be_loaded_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(module, "_COMMAND", (module._COMMAND[0], "-c", "raise SystemExit(1)"))
    with pytest.raises(ConfigurationError, match="Apprise cannot be loaded"):
        check_targets({"team": Secret("json://a.test")})
