"""The port answers only requests with the secret of the data folder or with the cookie of a session."""

import re
import stat
from collections import deque
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from litestar import Litestar
from owner import SECRET

from tasktrail import Client, __version__
from tasktrail.actors.core.tokens import Token
from tasktrail.api.service import TaskService
from tasktrail.errors import Forbidden, ListenFailed, Unauthorized
from tasktrail.events.errors import InvalidValue
from tasktrail.http.access import CODE_LASTS, Access
from tasktrail.http.app import build_app
from tasktrail.http.backend import Backend
from tasktrail.http.owner_secret import secret_in
from tasktrail.http.permissions import Need, check_permission, handlers_of, public_paths
from tasktrail.http.server import HttpServer
from tasktrail.http.sessions import LASTS, MOST, MOST_OF_ONE, Sessions, csrf_of
from tasktrail.web.login import local

Serve = Callable[..., HttpServer]
TOKEN = Token(
    token="t",
    role="reader",
    user_id=None,
    expires_at=None,
    digest="t",
    added_at=datetime(2026, 1, 1, tzinfo=UTC),
    actor="",
    reason="",
    position=1,
)
BROWSER = {"accept": "text/html,*/*;q=0.8"}


@pytest.fixture
def browser(server: HttpServer) -> Any:
    """A browser that is not logged in yet, with a jar for cookies."""
    with httpx.Client(base_url=server.address, trust_env=False) as client:
        yield client


def every_route(web: httpx.Client) -> list[tuple[str, str]]:
    paths = web.get("/openapi.json").json()["paths"]
    known = [
        (method.upper(), path.replace("{task_id}", "1").replace("{user_id}", "1").replace("{schedule}", "x"))
        for path, operations in paths.items()
        for method in operations
    ]
    return [*known, ("GET", "/openapi.json"), ("GET", "/"), ("GET", "/nowhere"), ("DELETE", "/v1/tasks")]


def test_nobody_gets_anything_on_any_route_without_showing_something(web: httpx.Client, browser: httpx.Client) -> None:
    routes = every_route(web)
    assert len(routes) > 30
    for method, path in routes:
        answer = browser.request(method, path)
        if path == "/healthz":
            continue
        assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized"), path
        assert answer.headers["www-authenticate"].startswith("Bearer")
        assert answer.headers["content-type"] == "application/problem+json"


@pytest.fixture
def app(service: TaskService) -> Any:
    backend = Backend(service)
    yield build_app(backend, Access(SECRET, Sessions()))
    backend.close()


def test_every_route_says_what_it_needs(app: Litestar) -> None:
    silent = {
        (method, path)
        for path, method, handler in handlers_of(app)
        if method != "OPTIONS" and not isinstance(handler.opt.get("needs"), Need)
    }
    assert silent == set()


def test_only_what_shows_nothing_is_public(app: Litestar) -> None:
    whole, beginnings = public_paths(app)
    assert sorted(whole) == ["/healthz", "/login"]
    assert beginnings == ("/static/",)


@pytest.mark.parametrize("shown", [f"Bearer {SECRET}", f"bearer {SECRET}", f"BEARER  {SECRET}"])
def test_the_secret_opens_the_port(browser: httpx.Client, shown: str) -> None:
    assert browser.get("/v1/stats", headers={"authorization": shown}).status_code == 200


@pytest.mark.parametrize(
    "shown", [b"Bearer wrong", b"Bearer", b"", b"Basic eA==", b"Bearer \xff\xfe", b"\xff", SECRET.encode()]
)
@pytest.mark.parametrize("path", ["/healthz", "/v1/stats"])
def test_what_is_shown_has_to_be_right_even_where_nothing_is_needed(
    browser: httpx.Client, shown: bytes, path: str
) -> None:
    answer = browser.get(path, headers=[(b"authorization", shown)])
    assert (answer.status_code, answer.json()["code"]) == (401, "unauthorized")


def test_a_client_shows_the_secret_or_comes_through_the_socket(serve: Serve, tmp_path: Path) -> None:
    server = serve()
    with pytest.raises(Unauthorized, match="http-token"), Client(server.address) as stranger:
        stranger.types()
    with Client(server.address, token=SECRET) as friend:
        assert friend.types()
        assert list(friend.log(limit=1))
    with Client("http://localhost", socket=tmp_path / "other.sock") as unix:
        assert unix.types()


# --- logging in -----------------------------------------------------------------------------------------------


def test_a_browser_is_sent_to_the_page_where_one_logs_in_and_back(browser: httpx.Client) -> None:
    sent = browser.get("/v1/tasks?status=failed&limit=1", headers=BROWSER)
    assert (sent.status_code, sent.headers["location"]) == (303, "/login?next=/v1/tasks%3Fstatus%3Dfailed%26limit%3D1")
    page = browser.get(sent.headers["location"], headers=BROWSER)
    assert page.status_code == 200
    assert 'value="/v1/tasks?status=failed&amp;limit=1"' in page.text
    entered = browser.post("/login", data={"token": SECRET, "next": "/v1/tasks?status=failed&limit=1"})
    assert (entered.status_code, entered.headers["location"]) == (303, "/v1/tasks?status=failed&limit=1")
    assert browser.get("/v1/tasks").status_code == 200


@pytest.mark.parametrize(
    ("referer", "back"),
    [
        ("{}/tasks?status=failed", "/login?next=/tasks%3Fstatus%3Dfailed&unsent=1"),
        ("{}/", "/login?unsent=1"),
        ("{}//other.example/x", "/login?next=//other.example/x&unsent=1"),
        ("", "/login?unsent=1"),
        ("http://[", "/login?unsent=1"),
    ],
)
def test_a_form_that_was_sent_after_its_session_has_its_sender_log_in(
    server: HttpServer, browser: httpx.Client, referer: str, back: str
) -> None:
    headers = {**BROWSER, "origin": server.address, "referer": referer.format(server.address)}
    sent = browser.post("/tasks/1/cancel", data={"csrf": "x"}, headers=headers)
    assert (sent.status_code, sent.headers["location"]) == (303, back)
    page = browser.get(back, headers=BROWSER)
    assert page.status_code == 200
    assert "Nothing was done" in page.text
    assert "other.example" not in page.text


def test_a_browser_that_keeps_no_cookie_is_told_why_it_is_not_logged_in(
    server: HttpServer, browser: httpx.Client
) -> None:
    came_from = {**BROWSER, "referer": f"{server.address}/login?next=/tasks"}
    assert browser.post("/login", data={"token": SECRET, "next": "/tasks"}, headers=came_from).status_code == 303
    browser.cookies.clear()
    back = browser.get("/tasks", headers=came_from)
    assert (back.status_code, back.headers["location"]) == (303, "/login?next=/tasks&cookie=off")
    assert "did not keep the cookie" in browser.get(back.headers["location"], headers=BROWSER).text
    assert "cookie=off" not in browser.get("/tasks", headers=BROWSER).headers["location"]
    browser.cookies["another"] = "1"
    assert "cookie=off" not in browser.get("/tasks", headers=came_from).headers["location"]


def test_who_logs_out_twice_is_told_nothing_of_it(server: HttpServer, browser: httpx.Client) -> None:
    left = browser.post("/logout", data={"csrf": "x"}, headers={**BROWSER, "referer": f"{server.address}/tasks"})
    assert (left.status_code, left.headers["location"]) == (303, "/login")


def test_the_cookie_is_for_the_service_alone_and_holds_no_secret(browser: httpx.Client) -> None:
    said = browser.post("/login", data={"token": SECRET}).headers["set-cookie"]
    assert "; HttpOnly" in said
    assert "; SameSite=Strict" in said
    assert "; Path=/" in said
    assert "Domain" not in said
    assert SECRET not in said


@pytest.mark.parametrize("token", ["wrong", "", "\ud800", SECRET + "x"])
def test_a_wrong_token_logs_nobody_in(browser: httpx.Client, token: str) -> None:
    answer = browser.post("/login", data={"token": token.encode("utf-8", "surrogatepass")})
    assert answer.status_code == 401
    assert "set-cookie" not in answer.headers
    assert browser.get("/v1/tasks").status_code == 401


def test_an_address_logs_a_browser_in_once(server: HttpServer, browser: httpx.Client) -> None:
    address = server.login_address()
    assert address.startswith(f"{server.address}/login?code=")
    assert SECRET not in address
    entered = browser.get(address, headers=BROWSER)
    assert (entered.status_code, entered.headers["location"]) == (303, "/")
    assert browser.get("/v1/stats").status_code == 200
    with httpx.Client(trust_env=False) as later:
        assert later.get(address, headers=BROWSER).status_code == 401
        assert later.get(f"{server.address}/v1/stats").status_code == 401


def test_a_program_gets_such_an_address_for_whoever_it_is(web: httpx.Client, browser: httpx.Client) -> None:
    assert browser.get(web.post("/v1/login").json()["address"]).status_code == 303
    assert browser.get("/v1/stats").status_code == 200


def test_an_address_is_good_for_an_hour() -> None:
    now = [0.0]
    access = Access(SECRET, Sessions(), monotonic=lambda: now[0])
    early, late = (access.login_path(access.owner().credential).partition("=")[2] for _ in range(2))
    now[0] = CODE_LASTS - 1
    assert access.redeem(early)
    now[0] = CODE_LASTS + 1
    assert access.redeem(late) is None


def logged_in(browser: httpx.Client) -> str:
    """Log in; return the CSRF value of the new session."""
    assert browser.post("/login", data={"token": SECRET}).status_code == 303
    (value,) = browser.cookies.values()
    return csrf_of(value)


def test_logging_out_ends_the_session_and_not_only_the_cookie(browser: httpx.Client) -> None:
    csrf = logged_in(browser)
    kept = dict(browser.cookies)
    left = browser.post("/logout", data={"csrf": csrf})
    assert (left.status_code, left.headers["location"]) == (303, "/login")
    assert not browser.cookies
    browser.cookies.update(kept)
    assert browser.get("/v1/stats").status_code == 401


def test_logging_out_ends_what_the_session_still_follows_and_nothing_else(
    server: HttpServer, browser: httpx.Client
) -> None:
    csrf = logged_in(browser)
    patient: dict[str, Any] = {"base_url": server.address, "trust_env": False, "timeout": 30}
    with httpx.Client(**patient) as other, httpx.Client(**patient, cookies=dict(browser.cookies)) as tab:
        logged_in(other)
        with tab.stream("GET", "/live") as followed, other.stream("GET", "/live") as kept:
            parts, others = followed.iter_bytes(), kept.iter_bytes()
            assert next(parts)
            assert next(others)
            assert browser.post("/logout", data={"csrf": csrf}).status_code == 303
            with pytest.raises(httpx.TransportError):
                deque(parts)
            assert next(others)


def test_a_session_outlives_a_restart(serve: Serve, tmp_path: Path) -> None:
    first = serve(session_file=tmp_path / "sessions", port=0)
    port = httpx.URL(first.address).port
    with httpx.Client(trust_env=False) as browser:
        browser.post(f"{first.address}/login", data={"token": SECRET})
        (value,) = browser.cookies.values()
        assert value not in (tmp_path / "sessions").read_text()
        assert stat.S_IMODE((tmp_path / "sessions").stat().st_mode) == 0o600
        assert first.stop()
        second = serve(session_file=tmp_path / "sessions", port=port)
        assert browser.get(f"{second.address}/v1/stats").status_code == 200


def test_a_session_of_a_secret_that_was_changed_is_over(tmp_path: Path) -> None:
    first = Access(SECRET, Sessions(tmp_path / "sessions"))
    cookie = first.session_cookie(first.owner().credential, secure=False).partition(";")[0]
    again = Access(SECRET, Sessions(tmp_path / "sessions"))
    assert again.identify({b"cookie": cookie.encode()}, secure=False)
    other = Access(SECRET + "2", Sessions(tmp_path / "sessions"))
    renamed = cookie.replace(again.cookie, other.cookie)
    assert other.identify({b"cookie": renamed.encode()}, secure=False) is None


def test_sessions_end_by_themselves_and_are_bounded(tmp_path: Path) -> None:
    now = [datetime(2026, 1, 1, tzinfo=UTC)]
    sessions = Sessions(tmp_path / "sessions", lambda: now[0])
    first = sessions.begin("a")
    assert sessions.find(first)
    now[0] += LASTS + timedelta(seconds=1)
    assert sessions.find(first) is None
    second, *_rest = (sessions.begin("a") for _ in range(MOST + 1))
    assert sessions.find(second) is None


def test_whoever_begins_many_sessions_ends_none_of_others() -> None:
    sessions = Sessions()
    other = sessions.begin("b")
    mine = [sessions.begin("a") for _ in range(MOST + 1)]
    assert sessions.find(other)
    assert sessions.find(mine[-1])
    assert len([one for one in mine if sessions.find(one)]) == MOST_OF_ONE


def test_whoever_asks_for_many_addresses_spoils_none_of_others() -> None:
    access = Access(SECRET, Sessions(), lambda: {"t": TOKEN})
    owner = access.owner().credential
    first = access.login_path(owner).partition("=")[2]
    codes = [access.login_path("t").partition("=")[2] for _ in range(200)]
    assert access.redeem(codes[0]) is None
    assert access.redeem(codes[-1])
    assert access.redeem(first)


def test_an_identity_of_a_session_holds_as_long_as_the_session() -> None:
    now = [datetime(2026, 1, 1, tzinfo=UTC)]
    access = Access(SECRET, Sessions(now=lambda: now[0]))
    cookie = access.session_cookie(access.owner().credential, secure=False).partition(";")[0]
    who = access.identify({b"cookie": cookie.encode()}, secure=False)
    assert who is not None
    assert access.still_holds(who)
    now[0] += LASTS
    assert not access.still_holds(who)
    assert access.still_holds(access.owner())


def test_sessions_that_cannot_be_read_cost_a_log_in_and_those_that_cannot_be_written_end_with_the_service(
    tmp_path: Path,
) -> None:
    (tmp_path / "broken").write_text("{")
    assert Sessions(tmp_path / "broken").find("x") is None
    nowhere = Sessions(tmp_path / "missing" / "sessions")
    assert nowhere.find(nowhere.begin("a"))


@pytest.mark.parametrize(
    "path", ["//evil.example", "/\\evil.example", "https://evil.example", "javascript:x", "", "/a\r\nb", "/\t/evil"]
)
def test_nobody_is_sent_elsewhere_after_the_log_in(browser: httpx.Client, path: str) -> None:
    assert local(path) == "/"
    assert browser.post("/login", data={"token": SECRET, "next": path}).headers["location"] == "/"


def test_whoever_wanted_a_page_with_an_odd_address_is_sent_there(browser: httpx.Client) -> None:
    sent = browser.get("/submit/\u65e5\u672c?like=1", headers=BROWSER).headers["location"]
    wanted = re.findall(r'name="next" value="([^"]*)"', browser.get(sent, headers=BROWSER).text)
    entered = browser.post("/login", data={"token": SECRET, "next": wanted[0]})
    assert (entered.status_code, entered.headers["location"]) == (303, "/submit/%E6%97%A5%E6%9C%AC?like=1")


# --- what a session needs to change something -----------------------------------------------------------------


@pytest.mark.parametrize("carried", [{}, {"x-csrf-token": ""}, {"x-csrf-token": "0" * 64}])
def test_a_session_changes_nothing_without_what_only_its_pages_know(
    browser: httpx.Client, carried: dict[str, str]
) -> None:
    logged_in(browser)
    assert browser.post("/logout", headers=carried).status_code == 403
    for path in ("/v1/queue/drain", "/v1/tasks/1/cancel", "/v1/login"):
        answer = browser.post(path, headers=carried)
        assert (answer.status_code, answer.json()["code"], answer.json()["field"]) == (403, "wrong_origin", "csrf")


def test_what_its_pages_know_comes_in_a_header_or_in_a_form(browser: httpx.Client) -> None:
    csrf = logged_in(browser)
    assert browser.post("/v1/login", headers={"x-csrf-token": csrf}).status_code == 200
    assert browser.post("/logout", data={"csrf": csrf}).status_code == 303


def test_every_answer_says_that_it_stands_in_no_frame(web: httpx.Client, browser: httpx.Client) -> None:
    for answer in (web.get("/v1/stats"), web.get("/nowhere"), browser.get("/v1/stats"), browser.get("/login")):
        assert "frame-ancestors 'none'" in answer.headers["content-security-policy"]
        assert answer.headers["x-frame-options"] == "DENY"
        assert answer.headers["x-content-type-options"] == "nosniff"


def test_whoever_nobody_knows_sees_neither_the_version_nor_the_choice_of_a_moment(browser: httpx.Client) -> None:
    for path in ("/login", "/static/1/nothing", "/healthz", "/login?no=such"):
        text = browser.get(path, headers=BROWSER).text
        assert __version__ not in text
        assert "as_of" not in text


def test_nobody_keeps_an_answer_but_files_that_are_the_same_for_all(web: httpx.Client, browser: httpx.Client) -> None:
    pages = [web.get(path, headers={"accept": "text/html"}) for path in ("/", "/tasks", "/nowhere", "/healthz")]
    for answer in (
        *pages,
        web.get("/v1/tasks"),
        web.post("/v1/login"),
        browser.get("/v1/stats"),
        browser.get("/login"),
    ):
        assert answer.headers.get_list("cache-control") == ["no-store"]
    (style,) = re.findall(r'rel="stylesheet" href="([^"]+)"', pages[0].text)
    assert browser.get(style).headers["cache-control"].startswith("public")


def test_a_route_that_names_no_need_is_shut() -> None:
    owner = Access(SECRET, Sessions()).owner()
    with pytest.raises(Forbidden):
        check_permission(owner, None, "do what nobody has thought of")


# --- the secret -----------------------------------------------------------------------------------------------


def test_the_secret_is_made_once_for_the_owner_only_and_kept(tmp_path: Path) -> None:
    path = tmp_path / "http-token"
    secret = secret_in(path)
    assert len(secret) >= 32
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert secret_in(path) == secret
    assert [file.name for file in tmp_path.iterdir()] == ["http-token"]


def test_a_secret_that_others_could_read_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "http-token"
    secret = secret_in(path)
    path.chmod(0o644)
    assert secret_in(path) != secret
    assert stat.S_IMODE(path.stat().st_mode) == 0o600


@pytest.mark.parametrize("content", [b"", b"short", b"with blanks in the middle of it", b"\xff" * 40, b"x" * 5000])
def test_a_file_that_holds_no_secret_is_told_and_left_alone(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "http-token"
    path.write_bytes(content)
    path.chmod(0o600)
    with pytest.raises(ListenFailed, match="http-token"):
        secret_in(path)
    assert path.read_bytes() == content


def test_a_link_is_no_secret(tmp_path: Path) -> None:
    (tmp_path / "elsewhere").write_text("x" * 40)
    (tmp_path / "http-token").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ListenFailed):
        secret_in(tmp_path / "http-token")


def test_where_no_secret_can_be_written_nobody_knows_it(tmp_path: Path) -> None:
    path = tmp_path / "missing" / "http-token"
    assert len(secret_in(path)) >= 32
    assert secret_in(path) != secret_in(path)


@pytest.mark.parametrize("token", ["with blank", "line\nend", "\u4efb\u52a1"])
def test_a_client_refuses_a_token_that_no_header_can_hold(serve: Serve, token: str) -> None:
    with pytest.raises(InvalidValue) as refused:
        Client(serve().address, token=token)
    assert refused.value.field == "token"


# --- pages of others ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("site", ["cross-site", "same-site", "Cross-Site"])
def test_what_a_page_of_another_site_makes_a_browser_ask_is_refused(web: httpx.Client, site: str) -> None:
    for path in ("/healthz", "/v1/tasks", "/v1/verify", "/nowhere"):
        answer = web.get(path, headers={"sec-fetch-site": site})
        assert (answer.status_code, answer.json()["code"]) == (403, "wrong_origin")


@pytest.mark.parametrize("site", ["none", "same-origin"])
def test_an_address_that_was_typed_and_our_own_pages_pass(web: httpx.Client, site: str) -> None:
    assert web.get("/healthz", headers={"sec-fetch-site": site}).status_code == 200


def test_the_data_folder_is_for_its_owner_only(service: TaskService, data: Path, tmp_path: Path) -> None:
    assert service.paths.data == data
    with TaskService.open(tmp_path / "fresh"):
        made: dict[str, Any] = {path.name: stat.S_IMODE(path.stat().st_mode) for path in (tmp_path / "fresh").iterdir()}
    assert stat.S_IMODE((tmp_path / "fresh").stat().st_mode) == 0o700
    assert made
