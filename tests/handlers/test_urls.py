"""Addresses of files: what they name, and which places contain them."""

import pytest

from tasktrail.events.errors import InvalidPath
from tasktrail.handlers.urls import check_url, is_url, lies_below, parsed, plain_path


@pytest.mark.parametrize("text", ["/a/b", "a://", "s3:/b/c", "C:\\a", "", "/a/s3://b"])
def test_a_path_is_no_address(text: str) -> None:
    assert is_url(text) == (text == "a://")


@pytest.mark.parametrize(
    ("text", "scheme", "place", "path", "name"),
    [
        ("s3://bucket/a/b c%20.mp4", "s3", "bucket", "a/b c%20.mp4", "b c%20.mp4"),
        ("https://Example.org:8443/a/b%20c.mp4", "https", "example.org:8443", "a/b%20c.mp4", "b c.mp4"),
        ("https://example.org/get?id=5", "https", "example.org", "get?id=5", "get"),
        ("https://example.org/a%2Fb", "https", "example.org", "a%2Fb", "a_b"),
        ("s3://bucket/...", "s3", "bucket", "...", "file..."),
    ],
)
def test_an_address_has_parts(text: str, scheme: str, place: str, path: str, name: str) -> None:
    url = parsed(text)

    assert (url.scheme, url.place, url.path, url.name) == (scheme, place, path, name)


def test_a_name_is_one_that_a_file_can_have() -> None:
    assert len(parsed("s3://bucket/" + "é" * 400 + ".mp4").name.encode()) <= 200
    assert parsed("s3://bucket/" + "é" * 400 + ".mp4").name.endswith(".mp4")


@pytest.mark.parametrize(
    "text",
    [
        *("https://u:p@h/a", "s3://k@bucket/a", "https://h/a#b", "https://h/a?token=1", "https://h/a?AccessKeyId=1"),
        *("https://h/a?sv=1&se=2", "https://h/../a", "https://h/%2e%2e/a", "https://h//a", "s3://B/a", "s3://b/a"),
        *("gs://bucket/a", "az://c/a", "https:///a", "https://h:x/a", "s3://bucket/a\\b", "s3://bucket/a\nb"),
        *("https://h/a?x=1;sig=abc", "https://h/a;token=abc/f", "https://h/..;/a", "https://h/%252e%252e/a"),
        *("https://h/a%5c..%5cb", "https://h/..;x=1/a"),
        "https://h/a?" + "x" * 10 + "=" + "y" * 65,
    ],
)
def test_odd_addresses_are_refused(text: str) -> None:
    with pytest.raises(InvalidPath):
        parsed(text)


@pytest.mark.parametrize(
    ("text", "root", "within"),
    [
        ("s3://bucket/in/a", "s3://bucket/in/", True),
        ("s3://bucket/in/a", "s3://bucket/in", True),
        ("s3://bucket/in/a", "s3://bucket", True),
        ("s3://bucket/inner/a", "s3://bucket/in", False),
        ("s3://bucket2/in/a", "s3://bucket", False),
        ("https://h.org/a", "https://H.org/", True),
        ("https://h.org:444/a", "https://h.org/", False),
        ("http://h.org/a", "https://h.org/", False),
        ("https://h.org/a", "/", False),
    ],
)
def test_a_place_holds_what_is_below_it(text: str, root: str, *, within: bool) -> None:
    assert lies_below(parsed(text), [root]) is within


def test_a_refusal_names_what_the_operator_would_add() -> None:
    with pytest.raises(InvalidPath, match=r"such as s3://bucket/, to `input_roots`"):
        check_url("s3://bucket/a", ["/srv"], "input_file", "input_roots")


@pytest.mark.parametrize(
    ("text", "path"), [("file:///a%20b", "/a b"), ("file://localhost/a", "/a"), ("/a", "/a"), ("s3://b/a", "s3://b/a")]
)
def test_a_file_address_is_a_path(text: str, path: str) -> None:
    assert plain_path(text) == path


@pytest.mark.parametrize("text", ["file://other/a", "file://a", "file:///a?b", "file:///a#b"])
def test_a_file_address_of_another_machine_is_refused(text: str) -> None:
    with pytest.raises(InvalidPath):
        plain_path(text)
