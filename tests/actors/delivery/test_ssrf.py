"""Two hundred spellings of an address that is not on the open internet; none is ever connected to.

The resolver is faked, but as generous as the C library's: it reads decimal, octal, hexadecimal and short forms.
"""

import ipaddress
import socket
from collections.abc import Callable, Iterator
from typing import Any

import httpcore
import pytest

from tasktrail.actors.delivery import guarded
from tasktrail.actors.delivery.attempt import Deadline, Result
from tasktrail.actors.delivery.guarded import GuardedBackend
from tasktrail.actors.delivery.ssrf import BoundedResolver, EndpointRefused

Post = Callable[..., Result]
Connections = list[tuple[str, int]]

INNER = ("127.0.0.1", "169.254.169.254", "10.0.0.1", "172.16.0.1", "192.168.1.1", "100.64.0.1", "0.0.0.0")
NAMES = {
    "localhost": ["127.0.0.1", "::1"],
    "ip6-localhost": ["::1"],
    "metadata.google.internal": ["169.254.169.254"],
    "127.0.0.1.nip.test": ["127.0.0.1"],
    "router": ["192.168.1.1"],
    "both.test": ["8.8.8.8", "127.0.0.1"],
    "xn--0ca.test": ["10.0.0.1"],
    "nowhere.test": [],
    "example.org": ["8.8.8.8"],
}
ODD = [
    "https://user@127.0.0.1/",
    "https://example.org@127.0.0.1/",
    "https://127.0.0.1@example.org/",
    "https://example.org:443@127.0.0.1/",
    "https://:@127.0.0.1/",
    "https://example.org\\@127.0.0.1/",
    "https://127.0.0.1\\@example.org/",
    "https://127.0.0.1#@example.org/",
    "https://127.0.0.1?@example.org/",
    "https://127.0.0.1;example.org/",
    "https://example.org/#127.0.0.1",
    "https://%31%32%37.0.0.1/",
    "https://127%2e0%2e0%2e1/",
    "https://127\u30020\u30020\u30021/",
    "https://127.0.0.1\u3002/",
    "https://127\uff0e0\uff0e0\uff0e1/",
    "https://[::1%25lo]/",
    "https://[::1%lo]/",
    "https://[fe80::1%25eth0]/",
    "https://127.0.0.1%00.example.org/",
    "https://127.0.0.1%0a.example.org/",
    "https://127.0.0.1\t/",
    "https://127.0.0.1 /",
    "https:127.0.0.1",
    "https:///127.0.0.1/",
    "https:/127.0.0.1/",
    "//127.0.0.1/",
    "https://\u2488\u2488/",
    "http://169.254.169.254/latest/meta-data/",
    "http://localhost:2375/containers/json",
    "http://example.org/",
    "https://example.org:22/",
    "https://example.org:6379/",
    "gopher://127.0.0.1:6379/_x",
    "dict://127.0.0.1:11211/stat",
    "file:///etc/passwd",
    "ftp://127.0.0.1/",
    "ws://127.0.0.1/",
    "unix:///run/docker.sock",
    "data:text/plain,x",
    "https://localhost./",
    "https://LOCALHOST/",
    "https://lo\u212aalhost/",
    "https://loc\u00adalhost/",
    "https://\u24db\u24de\u24d2\u24d0\u24db\u24d7\u24de\u24e2\u24e3/",
    "https://localhost%2e/",
    "https://127.0.0.1:443:80/",
    "https://[::ffff:127.0.0.1/",
    "https://[127.0.0.1]/",
]


def hosts_of(address: str) -> Iterator[str]:
    """Return the address as a person, a C library or an IPv6 tunnel may write it."""
    parts = [int(part) for part in address.split(".")]
    number = int(ipaddress.IPv4Address(address))
    high, low = number >> 16, number & 0xFFFF
    yield from (address, f"{address}.", str(number), f"{number}.", hex(number), f"0X{number:08X}", f"0{number:o}")
    yield ".".join(map(hex, parts))
    yield ".".join(f"0{part:o}" for part in parts)
    yield ".".join(f"{part:03}" for part in parts)
    yield ".".join(f"0x{part:04x}" for part in parts)
    yield f"{parts[0]}.{number & 0xFFFFFF}"
    yield f"{parts[0]}.{parts[1]}.{low}"
    yield f"{hex(parts[0])}.{parts[1]}.0{parts[2]:o}.{parts[3]}"
    yield address.translate({ord("0") + digit: ord("\uff10") + digit for digit in range(10)})
    yield address.translate({ord("1") + digit: ord("\u2460") + digit for digit in range(9)})
    yield f"[::ffff:{address}]"
    yield f"[::ffff:{high:x}:{low:x}]"
    yield f"[0:0:0:0:0:ffff:{high:x}:{low:x}]"
    yield f"[::{high:x}:{low:x}]"
    yield f"[::ffff:0:{address}]"
    yield f"[64:ff9b::{high:x}:{low:x}]"
    yield f"[64:ff9b:1::{high:x}:{low:x}]"
    yield f"[2002:{high:x}:{low:x}::]"
    yield f"[2001:0:808:808:0:0:{high ^ 0xFFFF:x}:{low ^ 0xFFFF:x}]"
    yield f"[2606:4700::5efe:{high:x}:{low:x}]"


HOSTS = sorted({host for address in INNER for host in hosts_of(address)})
SPELLINGS = [
    *(f"https://{host}/" for host in HOSTS),
    *(f"https://{name}/" for name in NAMES if name != "example.org"),
    *ODD,
]


def generous(host: str, _port: int) -> list[str]:
    """Resolve a host as a C library does, without asking any server."""
    name = host.rstrip(".").lower()
    if name in NAMES:
        return NAMES[name]
    if ":" in host:
        return [host]
    return [socket.inet_ntoa(socket.inet_aton(name))]  # raises OSError, as a resolver does for an unreadable name


@pytest.fixture
def connections(monkeypatch: pytest.MonkeyPatch) -> Connections:
    """Record every connection that is tried; those beyond loopback are refused."""
    tried: Connections = []
    connect = httpcore.SyncBackend.connect_tcp

    def watched(self: Any, host: str, port: int, *rest: Any) -> Any:
        tried.append((host, port))
        if not host.startswith("127."):
            raise httpcore.ConnectError("a test may not leave this machine")
        return connect(self, host, port, *rest)

    monkeypatch.setattr(httpcore.SyncBackend, "connect_tcp", watched)
    return tried


def test_there_are_at_least_two_hundred_spellings() -> None:
    assert len(set(SPELLINGS)) == len(SPELLINGS) >= 200


def test_the_generous_resolver_reads_the_usual_disguises() -> None:
    """Otherwise the other tests here would prove nothing."""
    for host in ("2130706433", "0x7f.1", "0177.0.0.1", "127.1", "localhost.", "127.0.0.1"):
        assert "127.0.0.1" in generous(host, 443)


@pytest.mark.parametrize("url", SPELLINGS)
def test_no_spelling_of_an_inner_address_gets_a_connection(url: str, post: Post, connections: Connections) -> None:
    result = post(url, resolve=generous)
    assert not result.ok
    assert connections == []
    assert not any(part in result.detail for part in ("127.", "169.254", "10.0", "192.168"))


@pytest.mark.parametrize("host", HOSTS)
def test_even_past_the_rule_against_numbers_what_a_host_means_is_looked_at(host: str, connections: Connections) -> None:
    """The second line of defence by itself. Some read as public addresses: a leading zero makes 010 an 8."""
    with Deadline(5) as deadline, pytest.raises((EndpointRefused, httpcore.ConnectError)):
        GuardedBackend(deadline, (), BoundedResolver(generous)).connect_tcp(host.strip("[]"), 443, 1.0)
    assert all(ipaddress.ip_address(address).is_global for address, _port in connections)


@pytest.mark.parametrize("address", [ip for host in HOSTS if host.startswith("[") for ip in [host.strip("[]")]])
def test_a_harmless_name_that_means_a_disguised_address_gets_no_connection(
    address: str, post: Post, connections: Connections
) -> None:
    for found in ([address], ["8.8.8.8", address], [address, "8.8.8.8"]):
        result = post("https://example.org/", resolve=lambda _h, _p, found=found: found)
        assert result == Result(ok=False, detail="The address is not allowed", retryable=False)
    assert connections == []


def test_a_name_that_is_bound_anew_after_the_check_is_not_asked_again(post: Post, connections: Connections) -> None:
    answers = iter([["8.8.8.8"], ["127.0.0.1"]])
    result = post("https://rebound.test/", resolve=lambda _h, _p: next(answers))
    assert not result.ok
    assert connections == [("8.8.8.8", 443)]
    assert next(answers) == ["127.0.0.1"]


def test_a_connection_that_ends_elsewhere_than_at_the_checked_address_is_dropped(
    receiver: Any, post: Post, monkeypatch: pytest.MonkeyPatch
) -> None:
    connect = httpcore.SyncBackend.connect_tcp
    monkeypatch.setattr(
        httpcore.SyncBackend, "connect_tcp", lambda self, _host, _port, *_: connect(self, "127.0.0.1", receiver.port)
    )
    result = post("https://example.org/", resolve=lambda _h, _p: ["8.8.8.8"])
    assert result == Result(ok=False, detail="The address is not allowed", retryable=False)
    assert receiver.requests == []


def test_the_public_address_of_this_very_machine_gets_no_connection(
    post: Post, connections: Connections, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(guarded, "own_addresses", lambda: {"8.8.8.8"})
    assert not post("https://example.org/", resolve=generous).ok
    assert connections == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
@pytest.mark.parametrize("where", ["http://169.254.169.254/latest/meta-data/", "https://[::1]/", "//10.0.0.1/", "/x"])
def test_a_redirect_is_not_followed_wherever_it_leads(
    receiver: Any, post: Post, connections: Connections, status: int, where: str
) -> None:
    def lead_away(handler: Any) -> None:
        handler.send_response(status)
        handler.send_header("location", where)
        handler.send_header("content-length", "0")
        handler.end_headers()

    receiver.answer = lead_away
    result = post(receiver.url, receiver.allowed)
    assert (result.ok, result.retryable, result.detail) == (False, True, f"HTTP {status}")
    assert connections == [("127.0.0.1", receiver.port)]
    assert len(receiver.requests) == 1


def test_an_exempt_host_opens_no_door_to_another_port_or_spelling(
    receiver: Any, post: Post, connections: Connections
) -> None:
    allowed = ("127.0.0.1:1", "localhost:1")
    for host in ("127.0.0.1", "localhost", "2130706433", "[::ffff:127.0.0.1]"):
        assert not post(f"http://{host}:{receiver.port}/", allowed, resolve=generous).ok
    assert (connections, receiver.requests) == ([], [])
