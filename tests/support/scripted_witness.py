"""A witness on loopback that answers as a test wants."""

import base64
import threading
from collections.abc import Callable
from hashlib import sha256
from http.server import BaseHTTPRequestHandler, HTTPServer
from typing import Self, TypeAlias

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from tasktrail.projections.proof.witness_list import Witness

Answers: TypeAlias = Callable[[bytes], tuple[int, bytes]]


def signed_in(request: bytes) -> str:
    """The text of the note."""
    return request.decode().split("\n\n", 1)[1].rpartition("\n\n")[0] + "\n"


class ScriptedWitness:
    """A witness on loopback with a key of its own. `answers` gets each request's body.

    `location`: it redirects there. `endless`: it does not end its answers until it is closed.
    """

    def __init__(
        self, answers: Answers | None = None, *, name: str = "w", location: str = "", endless: bool = False
    ) -> None:
        self.asked: list[bytes] = []
        self._private = Ed25519PrivateKey.generate()
        raw = b"\4" + self._private.public_key().public_bytes_raw()
        self._short = sha256(f"{name}\n".encode() + raw).digest()[:4]
        self.name = name
        self.key = f"{name}+{self._short.hex()}+{base64.b64encode(raw).decode()}"
        self._closed = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                outer.asked.append(body)
                assert self.path == "/some/where/add-checkpoint"
                status, content = (answers or outer.signing)(body)
                self.send_response(307 if location else status)
                if location:
                    self.send_header("location", location)
                if not endless:
                    self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
                if endless:
                    self.wfile.flush()
                    outer._closed.wait()

            def log_message(self, *_arguments: object) -> None:
                """Nothing."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.named = Witness(f"http://127.0.0.1:{self.server.server_port}/some/where/", self.key)

    def line(self, body: str, seconds: int = 1_700_000_000, name: str = "") -> bytes:
        signature = self._private.sign(f"cosignature/v1\ntime {seconds}\n{body}".encode())
        raw = self._short + seconds.to_bytes(8) + signature
        return f"— {name or self.name} {base64.b64encode(raw).decode()}\n".encode()

    def signing(self, request: bytes) -> tuple[int, bytes]:
        return 200, self.line(signed_in(request))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self.server.shutdown()
        self.server.server_close()

    @property
    def olds(self) -> list[str]:
        return [body.split(b"\n", 1)[0].decode() for body in self.asked]
