"""A server that speaks S3, for tests: moto's, on this machine, with a look at every request and a hand on it."""

import logging
import socket
import threading
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any

KEY_ID = "AKIA-canary-id"
SECRET_KEY = "canary/secret+key"
SESSION = "canary-session-token"


class S3Server:
    """Serves buckets, and plain pages below `/web/`, until it is closed."""

    def __init__(self) -> None:
        from moto.moto_server.werkzeug_app import (  # noqa: PLC0415 - slow to load
            DomainDispatcherApplication,
            create_backend_app,
        )
        from werkzeug.serving import make_server  # noqa: PLC0415

        logging.getLogger("werkzeug").setLevel(logging.ERROR)
        self._app: Any = DomainDispatcherApplication(create_backend_app)
        self.requests: list[tuple[str, str]] = []
        """Method and path, with the query."""
        self.pages: dict[str, tuple[int, dict[str, str], bytes]] = {}
        """Path → status, headers, content."""
        self._overloaded = 0
        self._asked: Counter[tuple[str, str]] = Counter()
        self._changed = threading.Condition()
        self._rule: Callable[[str, str], bool] = lambda _method, _path: False
        self._held = 0
        self._refused: dict[str, tuple[int, str]] = {}
        self._server = make_server("127.0.0.1", 0, self._answer, threaded=True)
        setattr(self._server, "daemon_threads", True)  # noqa: B010 - its type does not know that it has threads
        self._thread = threading.Thread(target=self._server.serve_forever, name="s3", daemon=True)
        self._thread.start()

    @property
    def address(self) -> str:
        """Where it listens."""
        return f"http://{self.host}"

    @property
    def host(self) -> str:
        """`host:port`."""
        return f"127.0.0.1:{self._server.server_port}"

    @property
    def environment(self) -> dict[str, str]:
        """What a client has to know, in the variables that all clients of S3 read."""
        return {
            "AWS_ENDPOINT_URL_S3": self.address,
            "AWS_ACCESS_KEY_ID": KEY_ID,
            "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
            "AWS_SESSION_TOKEN": SESSION,
            "AWS_EC2_METADATA_DISABLED": "true",
        }

    def close(self) -> None:
        """Let go of what is held, and end."""
        self.release()
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()

    def refuse(self, path: str, status: int, code: str) -> None:
        """Answer requests for this path with an error."""
        self._refused[path] = (status, code)

    def overload(self, times: int) -> None:
        """Refuse each request so often, as one too many."""
        self._asked.clear()
        self._overloaded = times

    @contextmanager
    def holding(self, rule: Callable[[str, str], bool]) -> Iterator["S3Server"]:
        """Let requests wait of which the rule says so, by method and path with query."""
        with self._changed:
            self._rule = rule
        try:
            yield self
        finally:
            self.release()

    def release(self) -> None:
        """Hold nothing any more."""
        with self._changed:
            self._rule = lambda _method, _path: False
            self._changed.notify_all()

    def wait_held(self, number: int = 1, within: float = 30.0) -> None:
        """Until so many requests wait."""
        with self._changed:
            assert self._changed.wait_for(lambda: self._held >= number, within), "no such request came"

    def count(self, method: str, part: str) -> int:
        """How many requests there were of which the path holds that."""
        return sum(said == method and part in path for said, path in self.requests)

    def _answer(self, environ: dict[str, Any], start: Any) -> Iterable[bytes]:
        query = environ.get("QUERY_STRING", "")
        method, path = environ["REQUEST_METHOD"], environ["PATH_INFO"] + (f"?{query}" if query else "")
        with self._changed:
            self.requests.append((method, path))
            if self._rule(method, path):
                self._held += 1
                self._changed.notify_all()
                self._changed.wait_for(lambda: not self._rule(method, path))
                self._held -= 1
                if _has_gone(environ["werkzeug.socket"]):  # killed meanwhile: as if it had not been heard yet
                    start("400 Gone", [])
                    return []
        self._asked[method, path] += 1
        if path in self._refused or self._asked[method, path] <= self._overloaded:
            status, code = self._refused.get(path, (503, "SlowDown"))
            start(f"{status} Refused", [("Content-Type", "application/xml")])
            return [f"<Error><Code>{code}</Code><Message>{SECRET_KEY}</Message></Error>".encode()]
        if path.startswith("/web/"):
            status, headers, content = self.pages.get(path, (404, {}, b""))
            start(f"{status} X", [*({"Content-Length": str(len(content))} | headers).items()])
            return [content]
        return self._app(environ, start)  # type: ignore[no-any-return]


def _has_gone(client: socket.socket) -> bool:
    """Whether nobody waits for an answer any more."""
    try:
        return client.recv(1, socket.MSG_PEEK | socket.MSG_DONTWAIT) == b""
    except BlockingIOError:
        return False
    except OSError:
        return True
