"""An attack for each thing that must not happen; none succeeds."""

import asyncio
import re
import secrets
from collections.abc import Callable, Iterator
from typing import Any

import httpx
import pytest
from owner import AUTH, SECRET
from structlog.testing import capture_logs

from tasktrail.api.service import TaskService
from tasktrail.errors import TooManyRequests
from tasktrail.http import pace
from tasktrail.http.access import Access
from tasktrail.http.network import Network, Proxies
from tasktrail.http.pace import FailedLogins, Pace
from tasktrail.http.server import HttpServer
from tasktrail.http.sessions import Sessions, csrf_of

Serve = Callable[..., HttpServer]
FROM_ELSEWHERE = {"origin": "https://evil.example", "sec-fetch-site": "cross-site"}


@pytest.fixture
def victim(server: HttpServer) -> Iterator[httpx.Client]:
    """The browser of the owner, who is logged in."""
    with httpx.Client(base_url=server.address, trust_env=False) as browser:
        assert browser.post("/login", data={"token": SECRET}).status_code == 303
        yield browser


def csrf(browser: httpx.Client) -> str:
    (value,) = browser.cookies.values()
    return csrf_of(value)


# --- forged requests ------------------------------------------------------------------------------------------

FORMS: list[dict[str, Any]] = [
    {"data": {"reason": "forged"}},
    {"content": b"{}", "headers": {"content-type": "text/plain"}},
    {"content": b"{}", "headers": {"content-type": "application/json"}},
    {"files": {"a": b"b"}},
]


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("path", ["/v1/queue/drain", "/v1/tokens", "/v1/tasks/1/cancel", "/logout", "/limits/reset"])
def test_a_page_of_somebody_else_cannot_use_the_session_of_a_browser(
    victim: httpx.Client, service: TaskService, path: str, form: dict[str, Any]
) -> None:
    """SameSite already holds the cookie back. Here it is sent anyway, with everything an attacker can guess."""
    service.source.settle()  # the views have caught up with what other tests had recorded
    before = service.watermark.position
    for headers in (FROM_ELSEWHERE, {}, {"origin": "null"}, {"sec-fetch-site": "same-site"}):
        more = {**form, "headers": {**form.get("headers", {}), **headers}}
        assert victim.post(path, **more).status_code == 403
    for value in ("", "0" * 64, csrf_of("")):
        assert victim.post(path, data={"csrf": value}).status_code == 403
    service.source.settle()
    assert service.watermark.position == before
    assert victim.get("/v1/stats").status_code == 200


def test_another_session_of_the_same_person_does_not_lend_its_value(victim: httpx.Client, server: HttpServer) -> None:
    with httpx.Client(base_url=server.address, trust_env=False) as other:
        other.post("/login", data={"token": SECRET})
        assert victim.post("/logout", data={"csrf": csrf(other)}).status_code == 403
    assert victim.post("/logout", data={"csrf": csrf(victim)}).status_code == 303


def test_nobody_is_logged_in_by_the_page_of_somebody_else(server: HttpServer) -> None:
    """An attacker who logs a victim in under the attacker's name sees what the victim does then."""
    with httpx.Client(base_url=server.address, trust_env=False) as browser:
        assert browser.post("/login", data={"token": SECRET}, headers=FROM_ELSEWHERE).status_code == 403
        address = server.login_address()
        followed = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
        for spelled in ("/login", "//login", "/login/", "/%6cogin", "//login//"):
            assert browser.get(address.replace("/login", spelled), headers=followed).status_code == 403
        assert not browser.cookies


def test_a_person_who_is_refused_at_the_door_reads_a_page_and_a_program_the_problem(server: HttpServer) -> None:
    person = {"accept": "text/html,application/xhtml+xml;q=0.9"}
    followed = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    told: list[tuple[dict[str, str], int, str]] = [
        ({"host": "<b>.example"}, 421, "wrong_host"),
        (followed, 403, "wrong_origin"),
    ]
    with httpx.Client(base_url=server.address, trust_env=False) as browser:
        for headers, status, code in told:
            page = browser.get("/login", headers=person | headers)
            assert (page.status_code, page.headers["content-type"]) == (status, "text/html; charset=utf-8")
            assert f"<code>{code}</code>" in page.text
            assert "<b>" not in page.text
            assert browser.get("/login", headers=headers).json()["code"] == code
        assert "address line" in page.text


def test_a_link_elsewhere_leads_here_without_a_cookie_and_the_browser_asks_again(victim: httpx.Client) -> None:
    followed = {"sec-fetch-site": "cross-site", "sec-fetch-mode": "navigate", "sec-fetch-dest": "document"}
    answer = victim.get("/limits", headers=followed)
    assert answer.status_code == 200
    assert 'http-equiv="refresh"' in answer.text
    assert len(answer.text) < 200
    for other in ({"sec-fetch-dest": "iframe"}, {"sec-fetch-mode": "no-cors"}):
        assert victim.get("/limits", headers=followed | other).status_code == 403
    assert victim.post("/limits", headers=followed).status_code == 403


# --- rebinding, frames, scripts -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host",
    [
        *("evil.example", "evil.example:80", "localhost.evil.example", "", "127.0.0.1.nip.io"),
        *("evil.example, 127.0.0.1", "evil.example,localhost:80"),
    ],
)
def test_a_name_that_was_rebound_to_this_address_gets_nothing(victim: httpx.Client, host: str) -> None:
    for headers in ({}, AUTH):
        answer = victim.get("/v1/stats", headers={"host": host, **headers})
        assert (answer.status_code, answer.json()["code"]) == (421, "wrong_host")
        origin = {"origin": f"http://{host}", "host": host, **headers}
        assert victim.post("/v1/queue/drain", headers=origin).status_code == 421


@pytest.mark.parametrize("port", [b"65536", b"99999", b"1" * 5000, b"\xb2", b"-1", b"0x50"])
@pytest.mark.parametrize("path", ["/login", "/healthz", "/v1/stats", "/nowhere"])
def test_a_port_that_there_cannot_be_is_no_part_of_a_known_name(server: HttpServer, path: str, port: bytes) -> None:
    with httpx.Client(base_url=server.address, trust_env=False) as stranger:
        for shown in ({}, AUTH):
            headers = [
                (b"host", b"localhost:" + port),
                *((name.encode(), text.encode()) for name, text in shown.items()),
            ]
            answer = stranger.get(path, headers=headers)
            assert (answer.status_code, answer.json()["code"]) == (421, "wrong_host")


def test_nothing_can_be_shown_in_a_frame_or_read_by_a_page_of_somebody_else(victim: httpx.Client) -> None:
    for path in ("/", "/login", "/tasks", "/limits", "/v1/stats", "/nowhere", "/openapi.json"):
        headers = victim.get(path).headers
        assert headers["x-frame-options"] == "DENY"
        assert "frame-ancestors 'none'" in headers["content-security-policy"]
        assert headers["cross-origin-resource-policy"] == "same-origin"
        assert "access-control-allow-origin" not in headers


@pytest.mark.parametrize("text", ["<script>alert(1)</script>", '"><img src=x onerror=alert(1)>', "javascript:alert(1)"])
def test_what_stands_in_an_address_is_text_on_the_page_where_one_logs_in(server: HttpServer, text: str) -> None:
    with httpx.Client(base_url=server.address, trust_env=False) as browser:
        for path in ("/login", "/login?code=wrong"):
            page = browser.get(path, params={"next": f"/{text}"} if "?" not in path else None).text
            assert "<script" not in page
            assert "onerror=alert" not in re.sub(r'value="[^"]*"', "", page)


# --- sessions -------------------------------------------------------------------------------------------------


def test_a_session_that_an_attacker_knows_is_not_the_one_that_is_logged_in(server: HttpServer) -> None:
    with httpx.Client(base_url=server.address, trust_env=False) as browser:
        browser.post("/login", data={"token": SECRET})
        name = next(iter(browser.cookies.keys()))
        browser.cookies.clear()
        planted = secrets.token_urlsafe(32)
        browser.cookies.set(name, planted, domain="127.0.0.1", path="/")
        browser.post("/login", data={"token": SECRET})
        assert planted not in browser.cookies.values()
    with httpx.Client(base_url=server.address, trust_env=False, cookies={name: planted}) as attacker:
        assert attacker.get("/v1/stats").status_code == 401


def test_each_log_in_begins_another_session(server: HttpServer) -> None:
    seen = set()
    for _ in range(3):
        with httpx.Client(base_url=server.address, trust_env=False) as browser:
            browser.post("/login", data={"token": SECRET})
            seen |= set(browser.cookies.values())
    assert len(seen) == 3


def test_a_second_cookie_of_the_same_name_is_not_believed() -> None:
    access = Access(SECRET, Sessions())
    own = access.session_cookie(access.owner().credential, secure=False).partition(";")[0]
    assert access.identify({b"cookie": own.encode()}, secure=False)
    planted = f"{own.partition('=')[0]}=planted"
    for both in (f"{own}; {planted}", f"{planted}; {own}"):
        assert access.identify({b"cookie": both.encode()}, secure=False) is None


def test_under_tls_no_other_host_can_plant_the_cookie() -> None:
    access = Access(SECRET, Sessions())
    said = access.session_cookie(access.owner().credential, secure=True)
    assert said.startswith("__Host-")
    assert "; Secure" in said
    assert access.identify({b"cookie": said.partition(";")[0].replace("__Host-", "").encode()}, secure=True) is None


# --- guessing -------------------------------------------------------------------------------------------------


def test_guesses_find_nothing_and_do_not_shut_out_whoever_knows(serve: Serve) -> None:
    guesses = ["", "tt_", SECRET[:-1], SECRET.upper(), f"{SECRET} x", *(secrets.token_urlsafe(32) for _ in range(50))]
    with capture_logs() as lines, httpx.Client(base_url=serve().address, trust_env=False) as guesser:
        for guess in guesses:
            headers = {"authorization": f"Bearer {guess}".strip()}
            assert guesser.get("/v1/stats", headers=headers).status_code in (401, 429)
            assert guesser.post("/login", data={"token": guess}).status_code in (401, 429)
        assert guesser.get("/v1/stats", headers=AUTH).status_code == 200
    told = [line for line in lines if "a log-in failed" in line["event"]]
    assert 1 <= len(told) <= 3
    assert all(guess not in str(line) for line in told for guess in guesses if len(guess) > 8)


def test_whoever_guesses_waits_longer_each_time_and_only_so_many_wait_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pace, "LONGEST_WAIT", 4.0)
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    monkeypatch.setattr(pace, "sleep", sleep)
    now = [0.0]
    failed = FailedLogins(lambda: now[0])

    async def guess(number: int, client: str = "192.0.2.1") -> None:
        for _ in range(number):
            await failed.note(client, "header")

    asyncio.run(guess(12))
    assert slept == sorted(slept)
    assert (slept[0], slept[-1]) == (0.1, 4.0)
    asyncio.run(guess(1, "192.0.2.2"))
    assert slept[-1] == 0.1
    now[0] += pace.FORGOTTEN_AFTER + 1
    asyncio.run(guess(1))
    assert slept[-1] == 0.1

    async def many() -> list[BaseException | None]:
        never = asyncio.Event()
        monkeypatch.setattr(pace, "sleep", lambda _seconds: never.wait())
        waiting = [asyncio.ensure_future(failed.note("192.0.2.3", "form")) for _ in range(pace.MOST_WAITING + 3)]
        done, pending = await asyncio.wait(waiting, return_when=asyncio.FIRST_EXCEPTION)
        for one in pending:
            one.cancel()
        return [one.exception() for one in done]

    assert {type(error) for error in asyncio.run(many())} == {TooManyRequests}


def test_a_token_may_ask_so_often_and_is_told_when_to_come_back(serve: Serve, service: TaskService) -> None:
    now = [0.0]
    limit = Pace(2.0, lambda: now[0])
    for _ in range(4):
        limit.take("ci")
    with pytest.raises(TooManyRequests) as refused:
        limit.take("ci")
    assert refused.value.retry_after == 1
    limit.take("another")
    now[0] += 0.5
    limit.take("ci")
    secret = service.add_token("hasty", "reader")
    server = serve(network=Network(rate_limit=1.0))
    with httpx.Client(base_url=server.address, trust_env=False) as client:
        answers = [client.get("/v1/types", headers={"authorization": f"Bearer {secret}"}) for _ in range(6)]
        assert [answer.status_code for answer in answers[:2]] == [200, 200]
        last = answers[-1]
        assert (last.status_code, last.json()["code"]) == (429, "too_many_requests")
        assert int(last.headers["retry-after"]) >= 1
        assert all(client.get("/v1/types", headers=AUTH).status_code == 200 for _ in range(6))
    service.revoke_token("hasty")


# --- proxies --------------------------------------------------------------------------------------------------


def source(proxies: Proxies, client: str, **headers: str) -> tuple[str, str, str, bool]:
    listed = [(name.replace("_", "-").encode(), value.encode()) for name, value in headers.items()]
    found = proxies.source("http", client, listed)
    return found.client, found.scheme, found.host, found.plain


def test_nobody_but_a_trusted_proxy_says_who_the_client_is() -> None:
    forged = {"host": "tasks", "x_forwarded_for": "127.0.0.1", "x_forwarded_proto": "https", "x_forwarded_host": "evil"}
    assert source(Proxies(()), "127.0.0.1", **forged) == ("127.0.0.1", "http", "tasks", False)
    assert source(Proxies(("10.0.0.0/8",)), "192.0.2.7", **forged) == ("192.0.2.7", "http", "tasks", True)
    assert source(Proxies(("10.0.0.0/8",)), "::ffff:10.1.1.1", **forged) == ("127.0.0.1", "https", "evil", False)


def test_host_is_one_name_and_only_what_a_proxy_adds_is_a_list() -> None:
    listed = "evil.example, tasks"
    assert source(Proxies(()), "127.0.0.1", host=listed)[2] == listed
    assert source(Proxies(("10.0.0.0/8",)), "10.0.0.1", host=listed)[2] == listed
    assert source(Proxies(("10.0.0.0/8",)), "10.0.0.1", host="x", x_forwarded_host=listed)[2] == "tasks"


@pytest.mark.parametrize(
    ("told", "client"),
    [
        ("192.0.2.1", "192.0.2.1"),
        ("127.0.0.1, 192.0.2.1", "192.0.2.1"),
        ("192.0.2.1, 10.0.0.9", "192.0.2.1"),
        ("nonsense", "10.0.0.1"),
        ("192.0.2.1, nonsense", "10.0.0.1"),
        ("", "10.0.0.1"),
        ("10.0.0.5", "10.0.0.5"),
    ],
)
def test_what_a_client_puts_in_front_of_what_the_proxy_says_does_not_count(told: str, client: str) -> None:
    found = source(Proxies(("10.0.0.0/8",)), "10.0.0.1", x_forwarded_for=told, x_forwarded_proto="https")
    assert found[0] == client


def test_forged_headers_open_nothing_at_the_port(serve: Serve) -> None:
    server = serve(network=Network(hosts=("tasks.example.org",)))
    forged = {"x-forwarded-host": "tasks.example.org", "x-forwarded-proto": "https", "x-forwarded-for": "127.0.0.1"}
    with httpx.Client(base_url=server.address, trust_env=False) as client:
        assert client.get("/v1/stats", headers=forged).status_code == 401
        assert client.get("/v1/stats", headers={**forged, **AUTH, "host": "evil.example"}).status_code == 421
        entered = client.post("/login", data={"token": SECRET}, headers=forged)
        assert "Secure" not in entered.headers["set-cookie"]


def test_behind_a_trusted_proxy_the_names_and_the_scheme_are_those_of_the_world(serve: Serve) -> None:
    server = serve(network=Network(hosts=("tasks.example.org",), trusted_proxies=("127.0.0.1",)))
    told = {"x-forwarded-host": "tasks.example.org", "x-forwarded-proto": "https", "x-forwarded-for": "192.0.2.1"}
    with httpx.Client(base_url=server.address, trust_env=False) as client:
        entered = client.post("/login", data={"token": SECRET}, headers={**told, "origin": "https://tasks.example.org"})
        assert entered.status_code == 303
        assert entered.headers["set-cookie"].startswith("__Host-")
        assert "; Secure" in entered.headers["set-cookie"]
        assert (
            client.post(
                "/login", data={"token": SECRET}, headers={**told, "origin": "http://tasks.example.org"}
            ).status_code
            == 403
        )
        assert client.get("/v1/stats", headers={**told, **AUTH, "x-forwarded-host": "evil.example"}).status_code == 421
