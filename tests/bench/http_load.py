"""Sends no-op tasks to a service over sixteen connections at once, and prints how many commands were answered a second.

python http_load.py ADDRESS SECRET COMMANDS COMMANDS_A_REQUEST

Each connection sends its next request when the last was answered. The HTTP of each request is prepared beforehand,
since a client that needs as much CPU as the service would measure itself.
"""

import json
import socket
import sys
import threading
import time
from urllib.parse import urlsplit

_CONNECTIONS = 16
_ACCEPTED = b"HTTP/1.1 202"


def main() -> None:
    """Print commands a second."""
    address, secret, commands, size = sys.argv[1], sys.argv[2], int(sys.argv[3]), int(sys.argv[4])
    place = urlsplit(address)
    assert place.hostname is not None
    one = {"command": "create_task", "type": "noop"}
    body = json.dumps(one if size == 1 else [one] * size).encode()
    head = f"POST /v1/commands HTTP/1.1\r\nHost: {place.netloc}\r\nAuthorization: Bearer {secret}\r\n"
    request = f"{head}Content-Type: application/json\r\nContent-Length: {len(body)}\r\n\r\n".encode() + body
    each = max(1, commands // size // _CONNECTIONS)
    connections = [socket.create_connection((place.hostname, place.port)) for _ in range(_CONNECTIONS)]
    wrong: list[bytes] = []
    threads = [threading.Thread(target=_ask, args=(one, request, each, wrong)) for one in connections]
    begun = time.perf_counter()
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if wrong:
        sys.exit(wrong[0].decode(errors="replace"))
    print(each * size * _CONNECTIONS / (time.perf_counter() - begun))


def _ask(connection: socket.socket, request: bytes, times: int, wrong: list[bytes]) -> None:
    connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for _ in range(times):
        connection.sendall(request)
        answer = _answer(connection)
        if not answer.startswith(_ACCEPTED):
            wrong.append(answer[:2000])
            return


def _answer(connection: socket.socket) -> bytes:
    """Read one whole answer: its head gives the length."""
    got = bytearray()
    while (end := got.find(b"\r\n\r\n")) < 0:
        got += _more(connection)
    head = bytes(got[:end]).lower()
    _, found, after = head.partition(b"content-length: ")
    assert found, head
    missing = end + 4 + int(after.split(b"\r\n", 1)[0]) - len(got)
    while missing > 0:
        piece = _more(connection)
        got += piece
        missing -= len(piece)
    return bytes(got)


def _more(connection: socket.socket) -> bytes:
    piece = connection.recv(65536)
    if not piece:
        raise ConnectionError("the service closed the connection")
    return piece


if __name__ == "__main__":
    main()
