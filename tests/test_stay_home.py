"""The guard of all tests: an attempt to reach another machine fails."""

import socket

import pytest
from stay_home import left_home


def test_a_connection_to_another_machine_is_refused_and_noted() -> None:
    with socket.socket() as one, pytest.raises(ConnectionRefusedError, match="tests stay on this machine"):
        one.connect(("192.0.2.1", 80))
    assert left_home == [("192.0.2.1", 80)]
    left_home.clear()


def test_a_question_for_the_address_of_another_machine_too() -> None:
    with pytest.raises(ConnectionRefusedError, match="tests stay on this machine"):
        socket.getaddrinfo("example.org", 443)
    assert left_home == ["example.org"]
    left_home.clear()


def test_this_machine_may_be_reached() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server, socket.create_connection(server.getsockname()):
        assert left_home == []
