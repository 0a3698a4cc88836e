"""Text of a user, a file name, a handler or a receiver never becomes part of a page's structure, on any page.

All pages are found by their routes, so a new one is tested automatically, or fails because a value is missing.
"""

import json
import re
import sys
import threading
from collections.abc import Iterator
from html.parser import HTMLParser
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import httpx
import pytest
from litestar.handlers import HTTPRouteHandler

from tasktrail.api.service import TaskService
from tasktrail.config.settings import Config
from tasktrail.events.errors import TasktrailError
from tasktrail.http.server import HttpServer
from tasktrail.web import live, routes

SUPPORT = str(Path(__file__).parents[2] / "support")
EVIL = "\"'></title></textarea></script><x-evil onload=evil()>{{ 7*7 }}<script>evil()</script><!--"
EVIL_NAME = "\"'><x-evil onload=evil()>{{ 7*7 }}<script>evil()<"
"""Without a slash, so that a file may have this name."""
URLS = {"href", "src", "action", "formaction", "data-live"}
BULK_CHANGE = "bulk1"


class Structure(HTMLParser):
    """Notes the elements that only a page's templates may add, and finds those that they did not."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.wrong: list[str] = []
        self.text = ""
        self._script = False

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = dict(attrs)
        self._script = tag == "script"
        if tag in ("x-evil", "style", "iframe", "object", "embed", "base") or (self._script and "src" not in named):
            self.wrong.append(f"<{tag}>")
        self.wrong += [f"{name} on <{tag}>" for name in named if name.startswith("on") or name in ("style", "srcdoc")]
        self.wrong += [
            f"{name}={value!r}"
            for name, value in attrs
            if name in URLS and value and not re.match(r"(/(?!/)|\?|#)", value)
        ]

    def handle_data(self, data: str) -> None:
        if self._script and data.strip():
            self.wrong.append(f"script {data!r}")
        self.text += data

    def handle_endtag(self, tag: str) -> None:
        self._script = self._script and tag != "script"

    def handle_comment(self, data: str) -> None:
        self.wrong.append(f"comment {data!r}")


def structure(html: str) -> Structure:
    found = Structure()
    found.feed(html)
    found.close()
    return found


@pytest.fixture(scope="module")
def receiver() -> Iterator[str]:
    """Run a receiver of notices that answers with markup."""

    class Evil(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.rfile.read(int(self.headers["content-length"]))
            self.send_response(400)
            self.send_header("content-length", str(len(EVIL)))
            self.end_headers()
            self.wfile.write(EVIL.encode())

        def log_message(self, *_: Any) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Evil)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"127.0.0.1:{server.server_address[1]}"
    server.shutdown()
    server.server_close()
    thread.join()


class Filled:
    """A service in which every field is filled with markup, and a browser that looks at it."""

    def __init__(self, service: TaskService, browser: httpx.Client, task_ids: dict[str, int]) -> None:
        self.service = service
        self.browser = browser
        self.task_ids = task_ids


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory, receiver: str) -> Iterator[Filled]:
    folder = tmp_path_factory.mktemp("evil")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PYTHONPATH", SUPPORT)
        patch.setattr(sys, "path", [*sys.path, SUPPORT])
        config = Config(workers=2, handlers=("page_handlers",), allow_endpoints=(receiver,))
        with TaskService.open(folder / "data", config=config) as service:
            task_ids = _fill(service, folder, receiver)
            server = HttpServer(service, socket_path=service.paths.socket)
            server.start()
            transport = httpx.HTTPTransport(uds=str(service.paths.socket))
            with httpx.Client(base_url="http://localhost", transport=transport, timeout=30) as browser:
                sent = {
                    "action": "retry",
                    "of": "chosen",
                    "id": str(task_ids["done"]),
                    "reason": EVIL,
                    "label": EVIL[:60],
                }
                assert browser.post("/tasks/act", data={**sent, "bulk": BULK_CHANGE}).status_code == 303
                yield Filled(service, browser, task_ids)
            assert server.stop()


def _fill(service: TaskService, folder: Path, receiver: str) -> dict[str, int]:
    source = folder / EVIL_NAME
    source.write_text("not a picture")
    usual: dict[str, Any] = {
        "type": "saying",
        "input_file": source,
        "output_file": folder / f"{EVIL_NAME}.out",
        "overwrite": True,
        "label": EVIL[:60],
        "notify_webhook": f"http://{receiver}/?{EVIL_NAME}".replace(" ", "%20"),
        "notify_on": ["created", "completed", "failed"],
        "actor": EVIL[:60],
        "reason": EVIL,
        "user_id": 7,
    }
    said = {"message": EVIL, "error": ""}
    made: dict[str, int] = {}
    made["done"] = service.create_task(**usual, options={**said, "result": {EVIL: EVIL, "x": [EVIL]}})
    made["failed"] = service.create_task(**usual, options={**said, "error": EVIL})
    for task_id in made.values():
        service.wait(task_id, 30)
    made["running"] = service.create_task(**usual, options={**said, "wait": True})
    made["running too"] = service.create_task(**usual, options={**said, "wait": True})
    pause = threading.Event()
    assert any(service.get_task(made["running"]).message == EVIL or pause.wait(0.02) for _ in range(500))
    service.pause(user_id=8, reason=EVIL, actor=EVIL[:60])
    service.pause(type="image_thumbnail", reason=EVIL, actor=EVIL[:60])
    made["waiting"] = service.create_task(**usual, options=said, depends_on=[made["running"]])
    made["held"] = service.create_task(**usual, options=said, held=True)
    service.adjust_task(made["held"], priority=3, reason=EVIL, actor=EVIL[:60])
    made["ready"] = service.create_task(**usual, options=said)
    service.set_limits(labels={EVIL[:60]: 9}, reason=EVIL, actor=EVIL[:60])
    task = {"type": "saying", "input_file": "", "output_file": "", "options": {"message": EVIL}, "label": EVIL[:60]}
    service.add_schedule("nightly", task, cron="0 3 * * *", reason=EVIL, actor=EVIL[:60])
    assert any(
        any("evil" in notice.detail for notice in service.notices(made["failed"])) or pause.wait(0.02)
        for _ in range(500)
    )
    return made


def addresses(handler: HTTPRouteHandler, filled: Filled) -> Iterator[str]:
    """Return the addresses of a route, with a value for each variable part of its path."""
    values: dict[str, list[str]] = {
        "task_id": [str(number) for number in filled.task_ids.values()],
        "task_type": ["saying", "image_thumbnail"],
        "side": ["input", "output"],
        "bulk_id": [BULK_CHANGE],
    }
    for path in handler.paths:
        found = [path]
        for name, kind in re.findall(r"{(\w+):(\w+)}", path):
            assert name in values, f"say in this test what {{{name}}} of {path} may be"
            found = [one.replace(f"{{{name}:{kind}}}", value) for one in found for value in values[name]]
        yield from found


GETS = [one for one in routes.PAGES if "GET" in one.http_methods]
LIVE = [one for one in GETS if any(path.startswith("/live") for path in one.paths)]
WHOLE = [one for one in GETS if one not in LIVE]


def name_of(handler: HTTPRouteHandler) -> str:
    return min(handler.paths)


@pytest.mark.parametrize("handler", WHOLE, ids=name_of)
def test_what_others_wrote_is_text_on_every_page(filled: Filled, handler: HTTPRouteHandler) -> None:
    for address in addresses(handler, filled):
        answer = filled.browser.get(address)
        if answer.headers["content-type"].startswith("text/html"):
            assert structure(answer.text).wrong == [], address


@pytest.mark.parametrize("handler", WHOLE, ids=name_of)
def test_what_an_address_says_is_text_on_every_page(filled: Filled, handler: HTTPRouteHandler) -> None:
    injected = {"request", "backend", "who", "page", "access", "bulk_changes", "stories"}
    in_path = set(re.findall(r"{(\w+):", name_of(handler)))
    names = handler.parsed_fn_signature.parameters.keys() - injected - in_path
    for name in {*names, "as_of", "no_such"}:
        for value in (EVIL, "javascript:evil()", "//evil.example/"):
            answer = filled.browser.get(next(addresses(handler, filled)), params={name: value})
            assert answer.status_code < 500, (name, answer.text)
            assert answer.headers.get("location", "/").startswith("/"), name
            assert not answer.headers.get("location", "/").startswith("//"), name
            if answer.headers.get("content-type", "").startswith("text/html"):
                assert structure(answer.text).wrong == [], name


@pytest.mark.parametrize("handler", LIVE, ids=name_of)
def test_what_others_wrote_is_text_in_every_live_part(
    filled: Filled, handler: HTTPRouteHandler, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(live, "SILENCE", 0.3)
    monkeypatch.setattr(live, "_IDLE", 60.0)
    parts = 0
    with filled.browser.stream("GET", next(addresses(handler, filled))) as answer:
        for line in answer.iter_lines():
            if line.startswith("data: "):
                parts += 1
                assert structure(json.loads(line.removeprefix("data: "))["html"]).wrong == []
            if line.startswith(":") and parts:
                break
    assert parts


def test_the_fields_are_there_to_be_seen(filled: Filled) -> None:
    """Otherwise the tests above would find nothing wrong with empty pages."""
    now = structure(filled.browser.get("/").text).text
    assert now.count("<x-evil onload=evil()>") >= 3
    assert "<x-evil onload=evil()>" in structure(filled.browser.get("/log").text).text
    for name in ("done", "failed", "running", "held"):
        page = structure(filled.browser.get(f"/tasks/{filled.task_ids[name]}").text).text
        assert page.count("<x-evil onload=evil()>") >= 3, name
    assert "49" not in re.findall(r"onload=evil\(\)>(\S*)", now), "a template within a template"


@pytest.mark.parametrize(
    "told", ['good:<x-evil onload="evil()">', "bad:</p><script>evil()</script>", "worse:<x-evil>", "%", "good:%00%FF"]
)
def test_what_a_cookie_says_is_text(filled: Filled, told: str) -> None:
    answer = filled.browser.get("/", headers={"cookie": f"tasktrail-said={told}"})
    assert answer.status_code == 200
    assert structure(answer.text).wrong == []


def test_the_checker_finds_what_it_looks_for() -> None:
    for planted in ("<p onclick=x>", "<x-evil>", "<a href='javascript:x'>", "<script>x</script>", "<img src=//a.b>"):
        assert structure(planted).wrong, planted


@pytest.fixture(autouse=True, scope="module")
def _end(filled: Filled) -> Iterator[None]:
    yield
    for task_id in filled.task_ids.values():
        try:
            filled.service.cancel_task(task_id)
        except TasktrailError:
            continue
