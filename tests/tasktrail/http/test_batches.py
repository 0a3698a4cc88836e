"""Batches over HTTP, with the rights of whoever asks."""

from pathlib import Path
from typing import Any

import httpx
import pytest
from driven_client import driven
from owner import AUTH
from PIL import Image

from tasktrail import AsyncClient, Client
from tasktrail.api.service import TaskService
from tasktrail.http.server import HttpServer


@pytest.fixture
def pictures(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    for name in ("a", "b"):
        Image.radial_gradient("L").save(tmp_path / "in" / f"{name}.png")
    return tmp_path / "in"


def post(server: HttpServer, body: Any, headers: dict[str, str] | None = None) -> httpx.Response:
    return httpx.post(f"{server.address}/v1/batches", json=body, headers=headers or AUTH, trust_env=False, timeout=30)


def get(server: HttpServer, path: str, headers: dict[str, str] | None = None) -> httpx.Response:
    return httpx.get(f"{server.address}{path}", headers=headers or AUTH, trust_env=False, timeout=30)


def test_a_batch_is_made_and_seen(server: HttpServer, pictures: Path) -> None:
    body = {"inputs": [str(pictures)], "to": f"{pictures.parent}/out/{{stem}}.webp", "batch": "über b", "held": True}
    answer = post(server, body)
    assert answer.status_code == 202, answer.text
    made = answer.json()
    assert [one["type"] for one in made["created"]] == ["image_convert"] * 2
    seen = get(server, f"/v1/batches/%C3%BCber%20b?min_position={made['position']}")
    assert (seen.status_code, seen.json()["by_status"]) == (200, {"pending": 2})
    assert get(server, "/v1/batches?limit=1").json()[0]["batch"] == "über b"
    assert get(server, "/v1/batches/nothing").json()["code"] == "unknown_batch"
    assert get(server, "/v1/tasks?batch=%C3%BCber%20b").json()["total"] == 2
    assert len(post(server, body).json()["skipped"]) == 2, "to repeat it is harmless"


@pytest.mark.parametrize(
    ("body", "status", "field"),
    [
        ({}, 400, "inputs"),
        ({"inputs": [], "to": "/out"}, 400, "inputs"),
        ({"inputs": ["/a"], "to": "out"}, 400, "to"),
        ({"inputs": ["/a"], "to": "/out", "nonsense": 1}, 400, "nonsense"),
        ({"inputs": ["/a"], "to": "/out", "unique": "k"}, 400, "unique"),
        ({"inputs": ["/a"], "to": "/out", "type": "none"}, 400, "type"),
        ({"inputs": [5], "to": "/out"}, 400, "inputs[0]"),
        ({"inputs": ["/a"], "to": "/{"}, 422, "to"),
        ({"inputs": [""], "to": "/", "notify_targets": ["none"]}, 400, "notify_targets"),
        ({"inputs": [""], "to": "/", "original_folder": "here"}, 422, "original_folder"),
        ({"inputs": [""], "to": "/", "options": {"none": 1}, "type": "video_convert"}, 422, "options.none"),
        ({"inputs": [""], "to": "/", "options": {"none": 1}, "preset": "web-1080p"}, 422, "options.none"),
        ({"inputs": [""], "to": "/", "options": {"crf": "x"}, "type": "video_convert"}, 422, "options.crf"),
        ({"inputs": [""], "to": "/", "original": "move", "original_folder": "here"}, 400, "original_folder"),
    ],
)
def test_what_is_no_batch_is_refused(server: HttpServer, body: Any, status: int, field: str) -> None:
    answer = post(server, body)
    assert (answer.status_code, answer.json()["field"]) == (status, field), answer.text


def test_a_batch_is_repeated_by_its_id_for_whoever_made_it(
    service: TaskService, server: HttpServer, pictures: Path
) -> None:
    def of(user: int) -> dict[str, str]:
        return {"authorization": f"Bearer {service.add_token(f'repeating-{user}', 'submitter', user_id=user)}"}

    owner, ann, bob = AUTH, of(73), of(74)
    body: dict[str, Any] = {"inputs": [str(pictures)], "held": True, "options": {"quality": 80}}
    for who, name in ((owner, "owner"), (ann, "ann")):
        body |= {"to": f"{pictures.parent}/{name}/{{stem}}.webp", "command_id": f"repeated by {name}"}
        first = post(server, body, who).json()
        assert (len(first["created"]), first["repeated"]) == (2, False)
        (pictures / "a.png").rename(pictures / f"{name}.png")
        again = post(server, {**body, "options": {"quality": 80.0}}, who)
        assert (again.status_code, again.json()) == (202, {**first, "repeated": True})
        other = post(server, {**body, "priority": 3}, who)
        assert (other.status_code, other.json()["code"]) == (409, "command_id_reused")
        assert f"used for task {first['created'][0]['task_id']}" in other.json()["detail"]
        foreign = post(server, body, bob)
        assert (foreign.status_code, foreign.json()["code"]) == (409, "command_id_reused")
        assert foreign.json()["detail"].endswith("was used for another command")
        (pictures / f"{name}.png").rename(pictures / "a.png")


def test_a_user_sees_and_makes_only_his_own(service: TaskService, server: HttpServer, pictures: Path) -> None:
    def of(user: int) -> dict[str, str]:
        secret = service.add_token(f"batch-{user}", "submitter", user_id=user)
        return {"authorization": f"Bearer {secret}"}

    ann, bob = of(71), of(72)
    body = {"inputs": [str(pictures)], "to": f"{pictures.parent}/own/{{stem}}.webp", "batch": "own", "held": True}
    made = post(server, body, ann).json()
    assert service.get_task(made["created"][0]["task_id"]).user_id == 71
    assert get(server, "/v1/batches/own", ann).status_code == 200
    assert get(server, "/v1/batches/own", bob).status_code == 404
    assert get(server, "/v1/batches", bob).json() == []
    others = post(server, body, bob).json()
    assert (others["created"], len(others["refused"])) == ([], 2)
    assert f"Task {made['created'][0]['task_id']} " not in others["refused"][0]["problem"]["detail"], (
        "nor learns of them"
    )
    for more in ({}, {"dry_run": True}):
        refused = post(server, {**body, "user_id": 71, **more}, bob)
        assert (refused.status_code, refused.json()["field"]) == (403, "user_id")
    service.revoke_token("batch-71")
    service.revoke_token("batch-72")


@pytest.mark.parametrize("kind", [Client, AsyncClient])
def test_both_clients_make_one(kind: type[Client | AsyncClient], server: HttpServer, pictures: Path) -> None:
    name, token = kind.__name__, AUTH["authorization"].removeprefix("Bearer ")

    def connect() -> Any:
        return kind(server.address, token=token)

    with connect() if kind is Client else driven(connect) as client:
        to = f"{pictures.parent}/{{stem}}-{name}.png"
        made = client.create_batch([pictures], to, batch=name, task={"held": True})
        assert client.batch(name).total == len(made.created) == 2
        assert name in [batch.batch for batch in client.batches()]
