"""The routes of operators: the same commands as elsewhere, and the questions about the queue."""

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from owner import SECRET

from tasktrail import Client
from tasktrail.api.service import TaskService
from tasktrail.events.errors import UnknownTask
from tasktrail.projections.errors import BeyondTheLog

Wish = Callable[..., dict[str, Any]]


def problem(answer: httpx.Response) -> tuple[int, str, str]:
    body = answer.json()
    return answer.status_code, body["code"], body["field"]


def reasons(web: httpx.Client, task_id: int) -> dict[str, Any]:
    return {one["reason"]: one for one in web.get(f"/v1/tasks/{task_id}/why").json()["reasons"]}


def test_a_user_is_paused_why_tells_and_resume_lets_go(web: httpx.Client, wish: Wish) -> None:
    paused = web.post("/v1/queue/pause", json={"user_id": 77, "actor": "ops", "reason": "unpaid"})
    assert (paused.status_code, paused.json()["task_id"]) == (202, 0)
    task_id = web.post("/v1/tasks", json=wish(user_id=77, held=True)).json()["task_id"]
    found = reasons(web, task_id)
    assert found["Paused"]["detail"] == "user 77 is paused by ops: unpaid"
    assert found["Paused"]["evidence"] == [paused.json()["position"]]
    assert found["Held"]["evidence"]
    assert 77 in [pause["user_id"] for pause in web.get("/v1/limits").json()["pauses"]]
    assert problem(web.post("/v1/queue/pause", json={"user_id": 77})) == (409, "nothing_to_change", "")
    assert web.post("/v1/queue/resume", json={"user_id": 77}).status_code == 202
    assert "Paused" not in reasons(web, task_id)


def test_limits_are_changed_and_shown(web: httpx.Client) -> None:
    assert web.post("/v1/limits", json={"types": {"image_thumbnail": 3}, "max_per_user": 5}).status_code == 202
    board = web.get("/v1/limits").json()
    assert (board["limits"]["types"], board["limits"]["max_per_user"]) == ({"image_thumbnail": 3}, 5)
    assert board["changes"] == {"max_per_user": 5, "types": {"image_thumbnail": 3}}
    assert web.post("/v1/commands", json={"command": "set_limits", "reset": True}).status_code == 202
    assert web.get("/v1/limits").json()["changes"] == {}


def test_a_node_is_listed_drained_and_undrained(web: httpx.Client) -> None:
    (node,) = web.get("/v1/nodes").json()
    assert (node["node"], node["state"]) == ("local", "ready")
    drained = web.post("/v1/nodes/local/drain", json={"actor": "ops", "reason": "new disk"})
    try:
        assert drained.status_code == 202
        (node,) = web.get("/v1/nodes").json()
        assert node["state"] in ("draining", "drained")
        assert (node["drain"]["reason"], node["drain"]["position"]) == ("new disk", drained.json()["position"])
        assert problem(web.post("/v1/nodes/local/drain", json={})) == (409, "nothing_to_change", "node")
    finally:
        assert web.post("/v1/nodes/local/undrain", json={}).status_code == 202
    assert problem(web.post("/v1/nodes/nobody/drain", json={}))[0] == 404


@pytest.mark.slow  # a process folds the log
def test_a_client_is_told_of_an_earlier_moment_what_the_service_tells(
    service: TaskService, client: Client, wish: Wish
) -> None:
    task_id = service.create_task(**wish(user_id=79))
    service.pause(user_id=79, reason="unpaid")
    service.add_token("then", "auditor")
    drained = service.drain_node("local").position
    service.undrain_node("local")
    service.revoke_token("then")
    service.resume(user_id=79)
    for point in (drained, next(service.log(drained - 1, 1)).recorded_at):
        assert client.why(task_id, as_of=point) == service.why(task_id, as_of=point)
        assert client.queue(3, as_of=point) == service.queue(3, as_of=point)
        assert client.limits(as_of=point) == service.limits(as_of=point)
        for name in ("tokens", "schedules", "sources", "nodes"):
            assert getattr(client, name)(as_of=point) == getattr(service, name)(as_of=point)
    held = [one.reason for one in client.why(task_id, as_of=drained).reasons]
    held = [one for one in held if one != "ConcurrencyLimit"]  # a task of another test may have run
    assert held == ["Held", "Paused", "NodeDraining"]
    assert [one.token for one in client.tokens(as_of=drained)] == ["then"]
    with pytest.raises(UnknownTask):
        client.why(task_id, as_of=1)
    with pytest.raises(BeyondTheLog):
        client.queue(as_of=10**9)


def test_a_waiting_task_is_adjusted(web: httpx.Client, wish: Wish) -> None:
    web.post("/v1/queue/pause", json={"user_id": 78})
    task_id = web.post("/v1/tasks", json=wish(user_id=78, held=False)).json()["task_id"]
    position = web.post(f"/v1/tasks/{task_id}/adjust", json={"priority": 9}).json()["position"]
    task = web.get(f"/v1/tasks/{task_id}", params={"min_position": position}).json()
    assert (task["priority"], task["priority_terms"]["base"]) == (9, 9)
    (entry,) = [one for one in web.get("/v1/queue").json()["entries"] if one["task_id"] == task_id]
    assert (entry["terms"]["base"], entry["shut_by"]) == (9, ["pause of user 78"])
    for terms in (entry["terms"], task["priority_terms"], web.get(f"/v1/tasks/{task_id}/why").json()["terms"]):
        assert terms.keys() == {"base", "user", "wait", "duration"}


@pytest.mark.parametrize(
    ("path", "body", "expected"),
    [
        ("/v1/limits", {}, (409, "nothing_to_change", "")),
        ("/v1/limits", {"max_concurrent": 0}, (400, "invalid_value", "max_concurrent")),
        ("/v1/limits", {"max_memori": 1}, (400, "malformed", "max_memori")),
        ("/v1/queue/pause", {"type": "image_convert", "user_id": 1}, (409, "nothing_to_change", "user_id")),
        ("/v1/queue/pause", {"type": "image_konvert"}, (404, "unknown_type", "type")),
        ("/v1/limits", {"types": {"image_konvert": 1}}, (404, "unknown_type", "type")),
        ("/v1/tasks/999999/adjust", {"priority": 1}, (404, "unknown_task", "task_id")),
        (
            "/v1/schedules",
            {"schedule": "s", "task": {"type": "nothing"}, "every": 5},
            (400, "unknown_type", "task.type"),
        ),
        (
            "/v1/schedules",
            {"schedule": "s", "task": {"type": "image_thumbnail", "input_file": "a", "output_file": "b"}, "every": 5},
            (400, "invalid_path", "task.input_file"),
        ),
        (
            "/v1/schedules",
            {"schedule": "a/b", "task": {"type": "image_thumbnail"}, "every": 5},
            (400, "invalid_value", "schedule"),
        ),
        (
            "/v1/schedules",
            {"schedule": "..", "task": {"type": "image_thumbnail"}, "every": 5},
            (400, "invalid_value", "schedule"),
        ),
        ("/v1/schedules/none/remove", {}, (404, "unknown_schedule", "schedule")),
    ],
)
def test_a_bad_wish_is_a_problem_that_names_the_field(
    web: httpx.Client, path: str, body: dict[str, Any], expected: tuple[int, str, str]
) -> None:
    status, code, field = problem(web.post(path, json=body))
    assert (status, code) == expected[:2]
    assert expected[2] in ("", field)


def test_a_schedule_is_added_listed_and_removed(web: httpx.Client, wish: Wish) -> None:
    task = wish(overwrite=True)
    task.pop("command", None)
    added = web.post("/v1/schedules", json={"schedule": "weekly", "task": task, "cron": "0 4 * * MON"})
    assert added.status_code == 202, added.text
    (board,) = web.get("/v1/schedules").json()
    assert (board["schedule"], board["spec"]["cron"], board["runs"]) == ("weekly", "0 4 * * MON", 0)
    assert (board["spec"]["timezone"], board["spec"]["missed"], board["spec"]["every"]) == ("UTC", "once", None)
    assert problem(web.post("/v1/schedules", json={"schedule": "weekly", "task": task, "every": 9}))[1] == (
        "schedule_exists"
    )
    assert web.post("/v1/schedules/weekly/remove").status_code == 202
    assert web.get("/v1/schedules").json() == []


def test_a_schedule_with_an_odd_name_is_removed_by_its_route(web: httpx.Client, wish: Wish) -> None:
    """Only a slash cannot stand in an address, however it is written there."""
    for name in ("a b?c#d%2", "nächtlich.1", "..."):
        body = {"schedule": name, "task": wish(overwrite=True), "every": 60}
        assert web.post("/v1/schedules", json=body).status_code == 202
        assert web.post(f"/v1/schedules/{quote(name, safe='')}/remove").status_code == 202
    slashed = web.post("/v1/commands", json={"command": "remove_schedule", "schedule": "a/b"})
    assert problem(slashed) == (404, "unknown_schedule", "schedule")


def test_the_client_speaks_all_of_it(web: httpx.Client, wish: Wish) -> None:
    with Client(str(web.base_url), token=SECRET) as client:
        client.pause(user_id=79, reason="test")
        task_id = web.post("/v1/tasks", json=wish(user_id=79, held=False)).json()["task_id"]
        why = client.why(task_id)
        assert "Paused" in {one.reason for one in why.reasons}
        assert client.queue(1000).ready >= 1
        assert client.limits().pauses
        assert client.schedules() == []
        client.resume(user_id=79)
