"""All routes × roles × owners: permitted requests pass, others do not, and a bound token learns nothing of others."""

import json
import re
from collections.abc import Iterator
from datetime import UTC, datetime
from itertools import product
from pathlib import Path
from typing import Any, NamedTuple, get_args

import httpx
import pytest
from litestar import Litestar
from owner import AUTH, secret_file
from PIL import Image

from tasktrail import Client
from tasktrail.api.service import TaskService
from tasktrail.config.settings import Config
from tasktrail.errors import Forbidden
from tasktrail.events import Task
from tasktrail.events.system_events import Role
from tasktrail.exports.rows import What, opened, task_about
from tasktrail.http.access import Access
from tasktrail.http.app import build_app
from tasktrail.http.backend import Backend
from tasktrail.http.identity import Identity
from tasktrail.http.permissions import Need, check_permission, handlers_of
from tasktrail.http.server import HttpServer
from tasktrail.http.sessions import Sessions
from tasktrail.projections import TaskFilters

ROLES: tuple[Role, ...] = get_args(Role)
MINE, THEIRS = 7, 8
CANARY = "canary-of-somebody-else"
MISSING = 999_999


class World(NamedTuple):
    """A service with tasks of two users, and a token of every kind."""

    service: TaskService
    address: str
    app: Litestar
    tokens: dict[tuple[Role, int | None], str]
    mine: dict[str, int]
    theirs: dict[str, int]

    def client(self, role: Role, user_id: int | None = None) -> httpx.Client:
        headers = {"authorization": f"Bearer {self.tokens[role, user_id]}"}
        return httpx.Client(base_url=self.address, headers=headers, trust_env=False, timeout=60)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    folder = tmp_path_factory.mktemp("world")
    picture = folder / "in.png"
    Image.new("RGB", (8, 8)).save(picture)
    hidden = folder / f"{CANARY}.png"
    Image.new("RGB", (8, 8)).save(hidden)
    with TaskService.open(folder / "data", config=Config(workers=1)) as service:
        server = HttpServer(service, socket_path=service.paths.socket, secret_file=secret_file(folder / "data"))
        server.start()
        backend = Backend(service)
        service.pause(reason="so that all of them wait")

        def task(user: int, name: str, **more: Any) -> int:
            usual: dict[str, Any] = {"type": "image_thumbnail", "user_id": user, "overwrite": True}
            source = hidden if user == THEIRS else picture
            label = CANARY if user == THEIRS else "mine"
            files = {"input_file": str(source), "output_file": str(folder / f"{label}-{name}.jpg")}
            return service.create_task(**{**usual, **files, "label": label, **more})

        theirs = {name: task(THEIRS, name, priority=10) for name in ("first", "second", "parent")}
        mine = {name: task(MINE, name) for name in ("first", "parent")}
        mine["behind"] = task(MINE, "behind", depends_on=[theirs["first"]])
        mine["below"] = task(MINE, "below", parent_task_id=theirs["parent"])
        mine["own child"] = task(MINE, "child", parent_task_id=mine["parent"])
        theirs["child"] = task(THEIRS, "child", parent_task_id=mine["parent"])
        for user in (MINE, THEIRS):
            made = {"type": "image_thumbnail", "input_file": str(picture), "output_file": "", "user_id": user}
            made["output_file"] = str(folder / "s-{fire_time}.jpg")
            name = f"schedule-{CANARY}" if user == THEIRS else "schedule-of-mine"
            service.add_schedule(name, made, every=86400)
            service.set_limits(
                users={user: 3}, rates={f"user:{user}": "1000/m"}, reason=CANARY if user == THEIRS else ""
            )
        service.pause(user_id=THEIRS, reason=CANARY)
        service.adjust_task(theirs["second"], priority=9, reason=CANARY)
        tokens = {}
        for role, user_id in product(ROLES, (None, MINE)):
            if (role, user_id) != ("admin", MINE):
                tokens[role, user_id] = service.add_token(f"{role}-{user_id}", role, user_id=user_id)
        app = build_app(backend, Access("", Sessions()))
        yield World(service, server.address, app, tokens, mine, theirs)
        backend.close()
        assert server.stop()


class Asked(NamedTuple):
    """One route, ready for a request."""

    method: str
    path: str
    need: Need
    about_a_task: bool

    def send(self, client: httpx.Client, task_id: int = MISSING) -> httpx.Response:
        path = re.sub(r"\{task_id[^}]*\}", str(task_id), self.path)
        path = re.sub(r"\{user_id[^}]*\}", "1234", path)
        path = re.sub(r"\{task_type[^}]*\}", "image_thumbnail", path)
        path = re.sub(r"\{side[^}]*\}", "input", path)
        path = re.sub(r"\{[^}]*\}", "none", path)
        if self.path in ("/v1/events", "/v1/tasks/{task_id:int}/events"):
            path += "?follow=true&seconds=0.05"
        if self.method != "POST":
            with client.stream(self.method, path) as answer:
                if "event-stream" not in answer.headers.get("content-type", ""):
                    answer.read()
                else:
                    answer._content = next(answer.iter_bytes())
            return answer
        if self.path.startswith("/v1/"):
            return client.post(path, content=b"{}", headers={"content-type": "application/json"})
        return client.post(path, data={"nothing": ""})


def routes(app: Litestar) -> list[Asked]:
    found = []
    for path, method, handler in handlers_of(app):
        need = handler.opt.get("needs")
        if method != "OPTIONS" and path not in ("/login", "/logout"):  # which open and end sessions
            assert isinstance(need, Need), f"{method} {path} does not say what it needs"
            found.append(Asked(method, path, need, "{task_id" in path))
    return found


def may(need: Need, role: Role, user_id: int | None) -> bool:
    return need.nobody or (role in need.roles and not (need.whole and user_id is not None))


KINDS = [kind for kind in product(ROLES, (None, MINE)) if kind != ("admin", MINE)]
BOUND: list[Role] = [role for role, user_id in KINDS if user_id == MINE]


def test_whoever_shows_nothing_gets_nothing_on_any_route(world: World) -> None:
    with httpx.Client(base_url=world.address, trust_env=False) as nobody:
        for route in routes(world.app):
            if not route.need.nobody:
                assert route.send(nobody).status_code == 401, route
                assert route.send(nobody, world.mine["first"]).status_code == 401, route


@pytest.mark.parametrize(("role", "user_id"), KINDS)
def test_every_route_lets_in_whom_it_should_and_nobody_else(world: World, role: Role, user_id: int | None) -> None:
    with world.client(role, user_id) as client:
        for route in routes(world.app):
            if route.method == "GET" or not may(route.need, role, user_id):
                status = route.send(client, world.mine["first"]).status_code
                assert (status == 403) == (not may(route.need, role, user_id)), (route, status)
                assert status < 500, route
                assert status != 401, route


@pytest.mark.parametrize("role", BOUND)
def test_a_task_of_somebody_else_does_not_exist_on_any_route(world: World, role: Role) -> None:
    with world.client(role, MINE) as client:
        for route in routes(world.app):
            if not (route.about_a_task and may(route.need, role, MINE)):
                continue
            if route.method == "GET":
                # A waiting task has no provenance: its own user gets that answer, and any other gets none.
                expected = 409 if route.path.endswith("/provenance") else 200
                assert route.send(client, world.mine["first"]).status_code == expected, route
            wanting = route.send(client, MISSING)
            for task_id in world.theirs.values():
                answer = route.send(client, task_id)
                assert answer.status_code == wanting.status_code, (route, answer.text)
                if "json" in answer.headers.get("content-type", ""):
                    assert answer.text.replace(str(task_id), "N") == wanting.text.replace(str(MISSING), "N"), route


def ids_named(value: Any) -> Iterator[int]:
    """Return the tasks that an answer is about, without those that one of them depends on or is part of."""
    if isinstance(value, dict):
        for name, inner in value.items():
            if name in ("task_id", "id", "tasks") and not isinstance(inner, dict | str):
                some = inner if isinstance(inner, list) else [inner]
                yield from (one for one in some if isinstance(one, int))
            if name not in ("depends_on", "parent_task_id"):
                yield from ids_named(inner)
    elif isinstance(value, list):
        for one in value:
            yield from ids_named(one)


@pytest.mark.parametrize("role", BOUND)
def test_nothing_that_any_route_answers_tells_of_somebody_else(world: World, role: Role) -> None:
    seen = 0
    with world.client(role, MINE) as client:
        for route in routes(world.app):
            if route.method != "GET" or not may(route.need, role, MINE):
                continue
            for task_id in world.mine.values() if route.about_a_task else [MISSING]:
                answer = route.send(client, task_id)
                assert CANARY not in answer.text, route
                seen += 1
                if any(kind in answer.headers.get("content-type", "") for kind in ("text/html", "application/json")):
                    earlier = client.get(str(answer.url), params={"as_of": world.service.watermark.position})
                    assert earlier.status_code < 500, route
                    assert CANARY not in earlier.text, route
                kind = answer.headers.get("content-type", "")
                for name, other in world.theirs.items():
                    # The tasks that a task depends on, or is part of, are named in the task itself, and lead to a 404.
                    assert f'/tasks/{other}"' not in answer.text or name in ("first", "parent"), (route, task_id, other)
                lines = answer.text.splitlines() if "ndjson" in kind else [answer.text] if "json" in kind else []
                for line in filter(str.strip, lines):
                    ids = set(ids_named(json.loads(line))) if route.path != "/openapi.json" else set()
                    told = ids & set(world.theirs.values())
                    # `why` names the tasks that the task depends on, which stand in the task itself.
                    assert told <= ({world.theirs["first"]} if route.path.endswith("/why") else set()), (route, line)
    assert seen > 40


# --- lists, searches, counts, streams -------------------------------------------------------------------------


@pytest.fixture
def bound(world: World) -> Iterator[httpx.Client]:
    """An operator of one user's tasks."""
    with world.client("operator", MINE) as client:
        yield client


def own_tasks(world: World, filters: str = "") -> list[Task]:
    """Return the user's present tasks: other tests make tasks, too."""
    status = "pending" if "pending" in filters else ()
    return world.service.list_tasks(TaskFilters(user_id=MINE, status=status, limit=500))[0]


@pytest.mark.parametrize("moment", ["", "as_of=HEAD"])
@pytest.mark.parametrize("filters", ["", "status=pending", f"search={CANARY}", "sort=-effective_priority", "limit=1"])
def test_a_list_holds_and_counts_the_own_tasks_only(
    world: World, bound: httpx.Client, filters: str, moment: str
) -> None:
    moment = moment.replace("HEAD", str(world.service.watermark.position))
    answer = bound.get(f"/v1/tasks?{filters}&{moment}".strip("&?")).json()
    expected = 0 if CANARY in filters else len(own_tasks(world, filters))
    assert answer["total"] == expected
    assert {task["user_id"] for task in answer["tasks"]} <= {MINE}


@pytest.mark.parametrize("filters", [f"user_id={THEIRS}", f"label={CANARY}", f"user_id={THEIRS}&as_of=5"])
def test_a_filter_for_others_finds_nothing(bound: httpx.Client, filters: str) -> None:
    assert bound.get(f"/v1/tasks?{filters}").json() == {"tasks": [], "total": 0}


def test_of_several_users_only_the_own_is_left(world: World, bound: httpx.Client) -> None:
    assert bound.get(f"/v1/tasks?user_id={THEIRS},{MINE}").json()["total"] == len(own_tasks(world))


def test_a_type_that_only_others_have_used_is_unknown(bound: httpx.Client) -> None:
    answer = bound.get("/v1/tasks?type=nobody_has_it")
    assert (answer.status_code, answer.json()["code"]) == (404, "unknown_type")


def test_a_task_of_somebody_else_did_not_exist_earlier_either(world: World, bound: httpx.Client) -> None:
    head = world.service.watermark.position
    assert bound.get(f"/v1/tasks/{world.mine['first']}?as_of={head}").status_code == 200
    assert bound.get(f"/v1/tasks/{world.theirs['first']}?as_of={head}").status_code == 404


def test_no_page_tells_whether_a_task_of_somebody_else_existed_earlier(world: World, bound: httpx.Client) -> None:
    born = world.service.events(world.theirs["first"])[0].position
    for route in routes(world.app):
        if route.method != "GET" or not route.about_a_task or not may(route.need, "operator", MINE):
            continue
        path = re.sub(r"\{side[^}]*\}", "input", route.path)
        for moment in (born - 1, born, world.service.watermark.position):
            answers = []
            for task_id in (world.theirs["first"], MISSING):
                answer = bound.get(re.sub(r"\{task_id[^}]*\}", str(task_id), path), params={"as_of": moment})
                inside = re.search("<main.*</main>", answer.text, re.DOTALL)
                told = inside[0] if inside else answer.text
                answers.append((answer.status_code, told.replace(f"ask {task_id} ", "ask N ")))
            assert answers[0] == answers[1], (route, moment)


def test_of_the_children_of_a_task_only_the_own_count(world: World, bound: httpx.Client) -> None:
    path = f"/v1/tasks/{world.mine['parent']}"
    assert bound.get(path).json()["children"]["total"] == 1
    with world.client("reader") as everybody:
        assert everybody.get(path).json()["children"]["total"] == 2


def test_the_numbers_are_those_of_the_own_tasks(world: World, bound: httpx.Client) -> None:
    stats = bound.get("/v1/stats").json()
    waiting = len(own_tasks(world, "pending"))
    assert stats["total"] == len(own_tasks(world))
    assert stats["counts"]["pending"] == waiting
    assert sum(kind["counts"]["pending"] for kind in stats["by_type"].values()) == waiting
    with world.client("reader") as everybody:
        assert everybody.get("/v1/stats").json()["total"] >= len(own_tasks(world)) + len(world.theirs)


def test_the_queue_has_the_own_tasks_although_those_of_others_are_in_front(world: World, bound: httpx.Client) -> None:
    board = bound.get("/v1/queue").json()
    ready = {world.mine[name] for name in ("first", "parent", "below", "own child")}
    assert {entry["task_id"] for entry in board["entries"]} == ready
    assert [entry["place"] for entry in board["entries"]] == [1, 2, 3, 4]
    assert (board["ready"], board["blocked"], board["aside"]) == (4, 1, 0)


def test_the_queue_of_a_user_begins_with_what_can_start_although_held_tasks_count_more(
    world: World, bound: httpx.Client
) -> None:
    held = [world.service.create_task(**wish(world, user_id=MINE, priority=10)) for _ in range(3)]
    board = bound.get("/v1/queue?limit=2").json()
    assert len({entry["task_id"] for entry in board["entries"]} - {*held, world.mine["behind"]}) == 2
    assert (board["ready"], board["blocked"], board["aside"]) == (4, 1, 0)
    for task_id in held:
        world.service.cancel_task(task_id)


@pytest.mark.slow  # a process folds the log
def test_of_an_earlier_moment_a_user_learns_no_more_than_of_now(world: World, bound: httpx.Client) -> None:
    then = {"as_of": world.service.watermark.position}
    for path in ("/v1/queue", "/v1/limits", "/v1/schedules", f"/v1/tasks/{world.mine['behind']}/why"):
        answer = bound.get(path, params=then)
        assert answer.status_code == 200, answer.text
        assert CANARY not in answer.text
    board = bound.get("/v1/queue", params=then).json()
    assert board["at"]
    ready = {world.mine[name] for name in ("first", "parent", "below", "own child")}
    assert {entry["task_id"] for entry in board["entries"]} == ready
    assert bound.get("/v1/limits", params=then).json()["limits"]["users"] == {str(MINE): 3}
    assert [one["schedule"] for one in bound.get("/v1/schedules", params=then).json()] == ["schedule-of-mine"]
    why = bound.get(f"/v1/tasks/{world.mine['behind']}/why", params=then).json()
    assert [one["reason"] for one in why["reasons"]] == ["Paused", "Dependency"]
    assert bound.get(f"/v1/tasks/{world.theirs['first']}/why", params=then).status_code == 404
    for path in ("/v1/nodes", "/v1/sources", "/v1/tokens"):
        assert bound.get(path, params=then).status_code == 403


def test_of_the_limits_those_of_other_users_are_left_out(world: World, bound: httpx.Client) -> None:
    board = bound.get("/v1/limits").json()
    for part in (board["limits"], board["changes"]):
        assert part["users"] == {str(MINE): 3}
        assert part["rates"] == {f"user:{MINE}": "1000/m"}
    with world.client("reader") as everybody:
        assert len(everybody.get("/v1/limits").json()["limits"]["users"]) == 2


def test_why_counts_those_in_front_and_names_none(world: World, bound: httpx.Client) -> None:
    route = f"/v1/tasks/{world.mine['first']}/why"
    why = bound.get(route).json()
    with world.client("reader") as everybody:
        assert why["place"] == everybody.get(route).json()["place"] > len(why["ahead"]) + 1
    assert {one["task_id"] for one in why["ahead"]} <= set(world.mine.values())
    behind = bound.get(f"/v1/tasks/{world.mine['behind']}/why").json()
    (dependency,) = [one for one in behind["reasons"] if one["reason"] == "Dependency"]
    assert str(world.theirs["first"]) in dependency["detail"]
    assert dependency.get("evidence", []) == []


def test_the_log_is_cut_down_to_the_own_tasks_and_keeps_its_positions(world: World, bound: httpx.Client) -> None:
    mine = [json.loads(line) for line in bound.get("/v1/events").text.splitlines()]
    with world.client("reader") as everybody:
        all_of_it = [json.loads(line) for line in everybody.get("/v1/events").text.splitlines()]
    own = {task.id for task in own_tasks(world)}
    about = [one for one in all_of_it if one["task_id"] in own or one["data"].get("task_id") in own]
    assert mine == about
    assert {one["task_id"] for one in mine} - {0} == own


@pytest.mark.parametrize("accept", ["application/x-ndjson", "text/event-stream"])
def test_a_stream_tells_what_comes_of_the_own_tasks_and_nothing_else(world: World, accept: str) -> None:
    head = world.service.watermark.position
    with (
        world.client("reader", MINE) as client,
        client.stream("GET", f"/v1/events?follow=true&after={head}", headers={"accept": accept}) as stream,
    ):
        lines = stream.iter_lines()
        for task_id, reason in ((world.theirs["second"], CANARY), (world.mine["first"], "ours")):
            priority = world.service.get_task(task_id).priority
            world.service.adjust_task(task_id, priority=(priority + 1) % 10, reason=reason)
        told = next(line for line in lines if "{" in line)
        assert CANARY not in told
        assert json.loads(told.removeprefix("data: "))["reason"] == "ours"


# --- commands -------------------------------------------------------------------------------------------------


def wish(world: World, **more: Any) -> dict[str, Any]:
    task = world.service.get_task(world.mine["first"])
    usual = {"type": "image_thumbnail", "input_file": task.input_file, "output_file": task.output_file}
    return {**usual, "held": True, "overwrite": True, **more}


def test_a_bound_token_makes_tasks_of_its_user_only(world: World) -> None:
    with world.client("submitter", MINE) as client:
        made = client.post("/v1/tasks", json=wish(world)).json()["task_id"]
        assert world.service.get_task(made).user_id == MINE
        named = client.post("/v1/tasks", json=wish(world, user_id=MINE)).json()["task_id"]
        refused = client.post("/v1/tasks", json=wish(world, user_id=THEIRS))
        assert (refused.status_code, refused.json()["code"]) == (403, "forbidden")
        graph = {"command": "create_graph", "tasks": [{**wish(world), "name": "a"}]}
        of_graph = client.post("/v1/commands", json=graph).json()["task_id"]
        assert world.service.get_task(of_graph).user_id == MINE
        graph["tasks"] = [{**wish(world, user_id=THEIRS), "name": "a"}]
        assert client.post("/v1/commands", json=graph).status_code == 403
        for task_id in (made, named, of_graph):
            assert client.post(f"/v1/tasks/{task_id}/cancel").status_code == 202


@pytest.mark.parametrize("field", ["depends_on", "parent_task_id"])
def test_a_task_of_somebody_else_is_no_dependency_and_no_parent(world: World, field: str) -> None:
    with world.client("submitter", MINE) as client:
        texts = []
        for task_id in (world.theirs["first"], MISSING):
            value = [task_id] if field == "depends_on" else task_id
            answer = client.post("/v1/tasks", json=wish(world, **{field: value}))
            assert (answer.status_code, answer.json()["code"]) == (409, "unknown_dependency")
            texts.append(answer.text.replace(str(task_id), "N"))
            named = "parent" if field == "parent_task_id" else field
            graph = {"command": "create_graph", "tasks": [{**wish(world), "name": "a", named: value}]}
            assert client.post("/v1/commands", json=graph).json()["code"] == "unknown_dependency"
        assert texts[0] == texts[1]


def test_an_output_that_somebody_else_will_write_is_refused_without_naming_the_task(world: World) -> None:
    output = str(Path(world.service.get_task(world.mine["first"]).output_file).with_name("wanted-by-two.jpg"))
    document = 31_415
    ended = world.service.create_task(
        **wish(world, user_id=MINE, output_file=output, overwrite=False, document_id=document)
    )
    world.service.cancel_task(ended)
    holder = world.service.create_task(**wish(world, user_id=THEIRS, output_file=output, overwrite=False))
    new = wish(world, output_file=output, overwrite=False)
    graph = {"command": "create_graph", "tasks": [{**new, "name": "a"}]}
    sent: tuple[tuple[str, Any], ...] = (
        ("/v1/tasks", new),
        ("/v1/commands", graph),
        ("/v1/commands", [{"command": "create_task", **new}]),
        (f"/v1/tasks/{ended}/retry", {}),
        ("/v1/tasks/retry", {"status": "cancelled", "document_id": document}),
    )
    for who, named in ((MINE, False), (None, True)):
        with world.client("submitter", who) as client:
            for path, body in sent:
                text = client.post(path, json=body).text
                assert "output_taken" in text, path
                assert bool(re.search(rf"[Tt]ask {holder}\b", text)) is named, text
    world.service.cancel_task(holder)


def test_no_command_reaches_a_task_of_somebody_else(world: World, bound: httpx.Client) -> None:
    other = world.theirs["first"]
    commands: list[dict[str, Any]] = [
        {"command": "start_task", "task_id": other},
        {"command": "cancel_task", "task_id": other, "children": True},
        {"command": "retry_task", "task_id": other, "force": True},
        {"command": "adjust_task", "task_id": other, "priority": 0},
        {"command": "redeliver_notice", "task_id": other, "notice_id": "x"},
        {"command": "save_checkpoint", "task_id": other, "checkpoint": {"data": {}}},
    ]
    before = world.service.events(other)
    answers = bound.post("/v1/commands", json=commands).json()
    assert [answer["code"] for answer in answers] == ["unknown_task"] * len(commands)
    assert world.service.events(other) == before


def test_a_cancel_with_children_leaves_those_of_others_alone(world: World, bound: httpx.Client) -> None:
    document = 27_182
    parent = world.service.create_task(**wish(world, user_id=MINE, document_id=document))
    own = world.service.create_task(**wish(world, user_id=MINE, parent_task_id=parent, document_id=document))
    other = world.service.create_task(**wish(world, user_id=THEIRS, parent_task_id=parent, document_id=document))
    assert bound.post(f"/v1/tasks/{parent}/cancel", json={"children": True}).status_code == 202
    assert world.service.get_task(own).status == "cancelled"
    assert world.service.get_task(other).status == "pending"
    world.service.cancel_task(other)
    with world.client("operator", MINE) as client:
        retried = client.post("/v1/tasks/retry", json={"status": "cancelled", "document_id": document}).json()
    assert other not in retried["retried"]
    assert own in retried["retried"]
    with world.client("operator", MINE) as client:
        assert client.post("/v1/tasks/retry", json={"user_id": THEIRS, "status": "cancelled"}).json()["retried"] == []
    for task_id in (parent, own):
        world.service.cancel_task(task_id)


def test_a_command_id_of_somebody_else_gives_no_answer_away(world: World, bound: httpx.Client) -> None:
    world.service.adjust_task(world.theirs["second"], priority=7, command_id="theirs")
    answer = bound.post(f"/v1/tasks/{world.theirs['second']}/adjust", json={"priority": 7, "command_id": "theirs"})
    assert (answer.status_code, answer.json()["code"]) == (409, "command_id_reused")
    assert "position" not in answer.json()


def test_the_actor_is_the_token_whatever_a_command_says(world: World) -> None:
    with world.client("operator") as client:
        for actor in ("scheduler", "http", "admin-None", ""):
            body = {"reason": f"forged by {actor}", "actor": actor, "priority": 5}
            changed = client.post(f"/v1/tasks/{world.mine['parent']}/adjust", json=body)
            if changed.status_code == 202:
                (record,) = world.service.log(changed.json()["position"] - 1, 1)
                assert record.actor == "operator-None"
        batch = [{"command": "adjust_task", "task_id": world.mine["parent"], "priority": 4, "actor": "scheduler"}]
        (record,) = world.service.log(client.post("/v1/commands", json=batch).json()[0]["position"] - 1, 1)
        assert record.actor == "operator-None"


def test_the_owner_may_say_for_whom_he_speaks(world: World) -> None:
    with httpx.Client(base_url=world.address, headers=AUTH, trust_env=False) as client:
        for actor, recorded in (("ada", "ada"), ("", "http")):
            body = {"priority": 3 if actor else 2, "actor": actor}
            changed = client.post(f"/v1/tasks/{world.mine['parent']}/adjust", json=body)
            (record,) = world.service.log(changed.json()["position"] - 1, 1)
            assert record.actor == recorded


@pytest.mark.parametrize("text", ["", "pending"])
def test_an_export_with_a_bound_token_has_the_own_tasks_alone(world: World, text: str) -> None:
    """As of the end, and as of a time."""
    own, end = {task.id for task in own_tasks(world)}, datetime.now(UTC).isoformat()
    with Client(world.address, token=world.tokens["reader", MINE]) as client:
        for filters in (TaskFilters(status=text), TaskFilters(status=text, as_of=end)):
            told = {}
            for what in get_args(What):
                with opened(client, what, filters) as found:
                    told[what] = [row for _reached, row in found.rows if row is not None]
            assert {task.id for task in told["tasks"]} == {task.id for task in own_tasks(world, text)}
            assert {task_about(record) for record in told["log"]} <= own
            assert {record.task_id for record in told["log"]} >= {task.id for task in told["tasks"]}
            assert told["attempts"] == []  # all of them wait
            assert CANARY not in str(told)


@pytest.mark.parametrize("role", BOUND)
def test_what_became_of_tasks_is_told_of_the_own_ones_alone(world: World, role: Role) -> None:
    own = {task.id for task in own_tasks(world)}
    with Client(world.address, token=world.tokens[role, MINE]) as client:
        end = world.service.watermark.position
        for begin in (0, world.service.events(world.theirs["child"])[0].position, end):
            whole = {one.task_id for one in world.service.diff(begin, end, limit=500).changes}
            found = client.diff(begin, end, limit=500)
            assert {one.task_id for one in found.changes} == whole & own
            assert found.total == len(found.changes)
            assert CANARY not in str(found)
        assert client.diff(0, end).total


def test_a_client_with_a_bound_token_sees_its_own_tasks(world: World) -> None:
    with Client(world.address, token=world.tokens["submitter", MINE]) as client:
        tasks, total = client.list_tasks()
        assert {task.user_id for task in tasks} == {MINE}
        assert total == len(tasks)
        assert {record.task_id for record in client.log()} - {0} == {task.id for task in tasks}


def test_who_is_bound_to_a_user_is_told_that_another_role_is_not_all_that_may_help() -> None:
    who = Identity(name="ci", role="admin", user_id=8, way="token", credential="")
    with pytest.raises(Forbidden, match="it is about all tasks") as refused:
        check_permission(who, Need(frozenset({"admin"}), whole=True), "GET /v1/nodes")
    assert "bound to no user" in refused.value.advice
