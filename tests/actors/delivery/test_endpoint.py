"""The receivers that may be connected to, by rule and by a trap that counts connections."""

from collections.abc import Callable
from typing import Any

import pytest

from tasktrail.actors.delivery.attempt import Result
from tasktrail.actors.delivery.ssrf import (
    EndpointRefused,
    all_public,
    check_public,
    host_and_port,
    is_exempt,
    is_public,
    own_addresses,
    parse_endpoint,
    resolve_name,
)

PRIVATE = [
    "127.0.0.1",
    "0.0.0.0",
    "10.1.2.3",
    "172.16.0.1",
    "192.168.1.1",
    "169.254.169.254",
    "100.64.0.1",
    "192.88.99.1",
    "224.0.0.1",
    "255.255.255.255",
    "::",
    "::1",
    "fe80::1",
    "fe80::1%eth0",
    "fc00::1",
    "ff02::1",
    "::ffff:127.0.0.1",
    "::ffff:169.254.169.254",
    "64:ff9b::a9fe:a9fe",
    "64:ff9b:1::1",
    "2002:7f00:1::",
    "2001::1",
    "2001:db8::1",
    "3fff::1",
    "fec0::1",
    "::127.0.0.1",
    "::8.8.8.8",
    "::ffff:0:127.0.0.1",
    "2606:4700::5efe:127.0.0.1",
    "2606:4700::200:5efe:10.0.0.1",
    "5f00::1",
    "192.0.0.8",
    "198.18.0.1",
    "240.0.0.1",
    "::ffff:8.8.8.8",
    "8.8.8.8%eth0",
    "not an address",
    "",
]
PUBLIC = ["93.184.216.34", "8.8.8.8", "2606:2800:220:1:248:1893:25c8:1946"]
SPELLINGS_OF_LOOPBACK = ["2130706433", "127.1", "0x7f.1", "0177.0.0.1", "localhost", "127.0.0.1", "[::1]", "①②⑦.1"]


@pytest.mark.parametrize("address", PRIVATE)
def test_addresses_that_are_not_of_the_open_internet_are_known(address: str) -> None:
    assert not is_public(address)


@pytest.mark.parametrize("address", PUBLIC)
def test_public_addresses_are_known(address: str) -> None:
    assert is_public(address)


def test_one_private_address_among_public_ones_is_enough_to_refuse() -> None:
    assert all_public(["8.8.8.8", "1.1.1.1"])
    assert not all_public(["8.8.8.8", "10.0.0.1"])
    assert not all_public([])


def test_a_public_address_of_this_machine_is_refused_too() -> None:
    assert not all_public(["8.8.8.8"], own={"8.8.8.8"})
    assert "127.0.0.1" in own_addresses()


@pytest.mark.parametrize(
    ("host", "port", "entry"),
    [
        ("localhost", 8080, "localhost"),
        ("localhost", 8080, "LocalHost:8080"),
        ("::1", 80, "[::1]"),
        ("::1", 80, "[::1]:80"),
        ("10.0.0.5", 443, "10.0.0.5:443"),
    ],
)
def test_the_operator_can_make_exceptions(host: str, port: int, entry: str) -> None:
    assert is_exempt(host, port, (entry,))


def test_an_exception_for_one_port_is_none_for_another() -> None:
    assert not is_exempt("localhost", 8081, ("localhost:8080",))


@pytest.mark.parametrize("host", ["2130706433", "localhost.", "127.1", "xlocalhost"])
def test_an_exception_counts_in_its_own_spelling_only(host: str) -> None:
    assert not is_exempt(host, 8080, ("127.0.0.1:8080", "localhost"))


@pytest.mark.parametrize("url", ["https://example.org/", "https://example.org:8443/x?y=1", "https://1.example.org./"])
def test_a_name_over_https_on_its_ports_needs_no_exception(url: str) -> None:
    check_public(parse_endpoint(url))


@pytest.mark.parametrize(
    "url",
    [
        "http://example.org/",
        "https://example.org:444/",
        "https://example.org:22/",
        "https://8.8.8.8/",
        "https://[2606:4700::1]/",
        "https://134744072/",
        "https://0x08.8.8.8/",
        "https://8.8.8.8./",
        "https://example.0x7/",
    ],
)
def test_everything_else_needs_one(url: str) -> None:
    with pytest.raises(EndpointRefused):
        check_public(parse_endpoint(url))


@pytest.mark.parametrize(
    "url",
    [
        "",
        "example.org",
        "//example.org/x",
        "ftp://example.org/",
        "file:///etc/passwd",
        "http://",
        "http:///path",
        "http://user@example.org/",
        "http://user:word@example.org/",
        "http://example.org:70000/",
        "http://example.org:0/",
        "http://example.org:port/",
        "http://exa\nmple.org/",
        "http://example.org/\x00",
        "javascript:alert(1)",
        "http://[::1/",
        "https://xn--/",
        "https://xn--a/",
        "unix:///run/docker.sock",
        "http://" + "a" * 70 + ".org:x",
        "http://example.org/#part",
        "https://exam ple.org/",
        "https://exam%20ple.org/",
        "https://example.org\\@evil.org/",
        "https://exam<ple.org/",
        "https://example,org/",
    ],
)
def test_what_is_no_plain_web_address_is_refused(url: str) -> None:
    with pytest.raises(EndpointRefused):
        parse_endpoint(url)


def test_host_and_port_have_the_schemes_default() -> None:
    assert host_and_port(parse_endpoint("https://Example.ORG/x")) == ("example.org", 443)
    assert host_and_port(parse_endpoint("http://example.org:81/x")) == ("example.org", 81)


@pytest.mark.parametrize("host", SPELLINGS_OF_LOOPBACK)
def test_no_spelling_of_loopback_reaches_a_local_server(receiver: Any, post: Callable[..., Result], host: str) -> None:
    result = post(f"http://{host}:{receiver.port}/")
    assert not result.ok
    assert receiver.requests == []


def test_a_name_that_means_a_private_address_never_gets_a_connection(
    receiver: Any, post: Callable[..., Result]
) -> None:
    for addresses in (["127.0.0.1"], ["8.8.8.8", "127.0.0.1"], ["::ffff:127.0.0.1"]):
        result = post("https://example.org/", resolve=lambda _h, _p, found=addresses: found)
        assert result == Result(ok=False, detail="The address is not allowed", retryable=False)
    assert receiver.requests == []


def test_a_name_is_resolved_once_and_the_checked_address_is_the_connected_one(
    receiver: Any, post: Callable[..., Result]
) -> None:
    """The second answer of a rebinding name server is never requested."""
    asked = []

    def rebinding(host: str, port: int) -> list[str]:
        asked.append((host, port))
        return ["127.0.0.1"]

    assert post(f"http://once.test:{receiver.port}/", ("once.test",), resolve=rebinding).ok
    assert asked == [("once.test", receiver.port)]
    assert receiver.requests[0][2]["host"] == f"once.test:{receiver.port}"


def test_the_next_address_is_tried_when_one_does_not_answer(receiver: Any, post: Callable[..., Result]) -> None:
    addresses = ["127.0.0.2", "127.0.0.1"]
    assert post(f"http://two.test:{receiver.port}/", ("two.test",), resolve=lambda _h, _p: addresses).ok


def test_a_name_that_cannot_be_resolved_is_tried_again_later(post: Callable[..., Result]) -> None:
    def lost(_host: str, _port: int) -> list[str]:
        raise OSError("no name server")

    result = post("https://example.org/", resolve=lost)
    assert (result.ok, result.retryable) == (False, True)


def test_the_systems_resolver_answers_each_address_once() -> None:
    assert resolve_name("127.0.0.1", 80) == ["127.0.0.1"]
