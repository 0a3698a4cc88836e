"""notices, redeliver, endpoints, enable: who was notified, and what to do when a delivery failed."""

import json
from collections.abc import Callable
from typing import Any

import pytest

from tasktrail.events import CancelTask, EnableEndpoint, RedeliverNotice
from tasktrail.events.system_events import DeliveryAttempted
from tasktrail.events.task_events import ERASED

HOOK, BACK = "https://example.org/hook", "https://example.org/back"


@pytest.fixture
def told(tasks: Any) -> dict[str, str]:
    """Return notice ids by channel: the webhook is gone, the callback was delivered, the mail waits for a retry."""
    task_id = tasks.create_task(type="noop", notify_webhook=HOOK, callback_url=BACK, notify_email="a@example.org")
    tasks.send(CancelTask(task_id=task_id))
    ids = {notice.channel: notice.notice_id for notice in tasks.notices(task_id)}
    outcomes: dict[str, dict[str, Any]] = {
        "webhook": {"ok": False, "final": True, "disabled": True, "detail": "HTTP 410", "target": HOOK},
        "callback": {"ok": True, "final": True, "detail": "HTTP 204", "target": BACK},
        "email": {"ok": False, "detail": "\x1b[31mbusy", "next_at": tasks.journal.at, "target": "a@example.org"},
    }
    for channel, outcome in outcomes.items():
        event = DeliveryAttempted(notice_id=ids[channel], task_id=task_id, channel=channel, **outcome)
        tasks.journal.record(0, event)
    return ids


def test_notices_are_shown_with_their_state_and_what_was_answered(
    cli: Callable[..., Any], told: dict[str, str]
) -> None:
    shown = cli("notices", "1")
    assert shown.code == 0
    rows = {line.split()[1]: line for line in shown.out.splitlines()[2:]}
    assert "disabled" in rows["webhook"]
    assert "HTTP 410" in rows["webhook"]
    assert "delivered" in rows["callback"]
    assert "pending" in rows["email"]
    assert " due " in rows["email"], "a next try is never in the past"
    assert all(told[channel] in row for channel, row in rows.items())
    assert "\x1b" not in shown.out


def test_for_a_program_each_notice_is_an_object(cli: Callable[..., Any], told: dict[str, str]) -> None:
    found = [json.loads(line) for line in cli("notices", "1", "--json").out.splitlines()]
    assert {notice["channel"]: notice["notice_id"] for notice in found} == told
    assert {notice["state"] for notice in found} == {"disabled", "delivered", "pending"}
    assert all(notice["tries"] == 1 for notice in found)


def test_show_counts_the_notices(cli: Callable[..., Any], told: dict[str, str]) -> None:
    assert told
    assert "1 delivered, 1 disabled, 1 pending" in cli("show", "1").out
    assert "notices " not in cli("show", "1", "--as-of", "2").out


def test_a_task_that_told_nobody_says_so(cli: Callable[..., Any], tasks: Any) -> None:
    tasks.create_task(type="noop")
    assert cli("notices", "1").out == "no notices so far\n"
    redelivered = cli("redeliver", "1")
    assert (redelivered.code, redelivered.out) == (0, "no notices so far\n")
    tasks.journal.create("noop", input_file=ERASED)
    for command in ("notices", "redeliver"):
        assert cli(command, "2").out == "the receivers of the notices of task 2, if any, were erased\n"
    assert cli("endpoints").out == "no endpoint is disabled\n"


def test_redeliver_takes_what_was_not_sent_or_what_is_named(
    cli: Callable[..., Any], tasks: Any, told: dict[str, str]
) -> None:
    assert cli("redeliver", "1", "--reason", "it is back").code == 0
    assert cli("redeliver", "1", told["callback"], "--json").code == 0
    sent = [command for command in tasks.sent if isinstance(command, RedeliverNotice)]
    assert [command.notice_id for command in sent] == [told["webhook"], told["callback"]]
    assert sent[0].reason == "it is back"
    assert sent[0].actor.startswith("cli:")
    assert {notice.state for notice in tasks.notices(1)} == {"pending"}
    assert cli("redeliver", "1").out == "every notice was delivered or is on its way\n"


def test_a_notice_that_is_not_there_is_refused_and_the_others_are_sent(
    cli: Callable[..., Any], told: dict[str, str]
) -> None:
    shown = cli("redeliver", "1", "nonsense", told["callback"])
    assert shown.code == 1
    assert "nonsense" in shown.err
    assert told["callback"] in shown.out


def test_endpoints_that_are_gone_are_listed_and_can_be_enabled(
    cli: Callable[..., Any], tasks: Any, told: dict[str, str]
) -> None:
    assert told
    assert HOOK in cli("endpoints").out
    (found,) = [json.loads(line) for line in cli("endpoints", "--json").out.splitlines()]
    assert (found["target"], found["detail"]) == (HOOK, "HTTP 410")
    assert cli("enable", HOOK, "--reason", "repaired").code == 0
    assert isinstance(tasks.sent[-1], EnableEndpoint)
    assert tasks.endpoints() == []


def test_targets_are_words_with_commas(cli: Callable[..., Any], tasks: Any) -> None:
    assert cli("submit", "noop", "--notify-targets", "team, ops").code == 0
    assert tasks.get_task(1).notify_targets == ("team", "ops")
    tasks.send(CancelTask(task_id=1))
    assert [line.split()[1:3] for line in cli("notices", "1").out.splitlines()[2:]] == [
        ["apprise", "ops"],
        ["apprise", "team"],
    ]


def test_the_events_to_be_told_are_words_with_commas(cli: Callable[..., Any], tasks: Any) -> None:
    assert cli("submit", "noop", "--notify-on", "failed, retried", "--notify-webhook", HOOK).code == 0
    assert tasks.get_task(1).notify_on == ("failed", "retried")
    refused = cli("submit", "noop", "--notify-on", "progressed", "--notify-webhook", HOOK)
    assert refused.code == 1
    assert "notify_on" in refused.err
