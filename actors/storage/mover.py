"""The mover: a process that fetches and stores files elsewhere for one attempt: `python -m …mover PARENT CREDENTIALS`.

Only this process has the credentials. They come through a file descriptor, not through its environment or its
arguments, which others could read. Its answers hold only addresses, sizes and the names of errors.
"""

import hashlib
import json
import os
import resource
import select
import shutil
import signal
import sys
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NoReturn

import msgspec

from ...events.existence import exists
from ...handlers.elsewhere import (
    Appear,
    Fetch,
    Fetched,
    LockHeld,
    Look,
    Moved,
    MoverAnswer,
    MoverRequest,
    Reached,
    Ready,
    Refused,
    Storage,
    Store,
    Stored,
    Sweep,
    Swept,
    hold,
    lock_of,
    make_folders,
)
from ...handlers.process.sandbox import die_with, hide_process
from ...handlers.urls import Url, parsed
from .places import CHUNK, PlaceError, RemoteFile, Source, unreachable

_TRIES = 8
"""How often it looks for a file, or resumes a broken read without a byte in between."""
_PAUSE = 0.2
"""Half the seconds before the first repetition. The pause doubles each time: nearly a minute in all."""
_REPORT_EVERY = 4 * 1024 * 1024
"""Bytes between two reports of progress."""
_LOOK_EVERY = 8 * 1024 * 1024
"""Bytes between two checks of the free disk space."""
_LOCKED_WITHIN = 1.0
"""Seconds to wait for an upload's lock: another process may hold it to see whether the upload goes on."""
_LEFT_FREE = 64 * 1024 * 1024
"""Bytes of the disk that an input must leave free."""


def main() -> NoReturn:
    """Carry out the requests on standard input, and answer on standard output. Ends when the input is closed."""
    hide_process()
    parent, credentials = sys.argv[1], int(sys.argv[2])
    if not die_with(parent):
        os._exit(1)
    for kind in (resource.RLIMIT_AS, resource.RLIMIT_CPU, resource.RLIMIT_FSIZE, resource.RLIMIT_DATA):
        _soft, hard = resource.getrlimit(kind)
        resource.setrlimit(kind, (hard, hard))  # the soft limits are meant for the attempt
    for number in (signal.SIGTERM, signal.SIGINT):  # meant for a handler's tools; the mover must cancel its upload
        signal.signal(number, signal.SIG_IGN)
    if credentials >= 0:
        os.environ.update(json.loads(os.pread(credentials, 1024 * 1024, 0)))
        os.close(credentials)
    Mover(_send_answer, requests=0).serve()
    os._exit(0)


def _send_answer(answer: MoverAnswer) -> None:
    try:
        os.write(1, msgspec.json.encode(answer) + b"\n")
    except BrokenPipeError:
        os._exit(1)


def _next_request() -> MoverRequest | None:
    line = sys.stdin.buffer.readline()
    return msgspec.json.decode(line, type=MoverRequest) if line else None


class Mover:
    """Carries out requests (`MoverRequest`).

    Args:
        send: gets the answers.
        receive: waits for the next request; returns None after the last.
        requests: a descriptor whose other end is closed when an upload is not wanted any more; with None that is
            noticed only after all bytes are sent.
    """

    def __init__(
        self,
        send: Callable[[MoverAnswer], None],
        receive: Callable[[], MoverRequest | None] = _next_request,
        requests: int | None = None,
    ) -> None:
        self._send = send
        self._receive = receive
        self._requests = requests
        self._s3: Any = None

    def serve(self) -> None:
        """Carry out requests until there are no more."""
        while (request := self._receive()) is not None:
            try:
                self._do(request)
            except PlaceError as error:
                self._send(Refused(kind=error.kind, message=str(error), remedy=error.remedy))
            except OSError as error:
                self._send(Refused(kind="failed", message=f"{error.strerror or type(error).__name__}".lower()))
            except Exception as error:  # noqa: BLE001 - its text may hold anything
                self._send(Refused(kind="failed", message=f"The file could not be moved: {type(error).__name__}"))

    def _do(self, request: MoverRequest) -> None:
        match request:
            case Fetch():
                self._fetch(request)
            case Store():
                self._store(request)
            case Sweep():
                self._send(Swept(count=self._sweep(Path(request.folder))))
            case Look():
                self._look(request)
            case Appear():
                self._send(Refused(kind="failed", message="No file is being moved"))

    def _client(self) -> Any:
        if self._s3 is None:
            from .s3 import make_client  # noqa: PLC0415 - loaded only when needed

            self._s3 = make_client()
        return self._s3

    # --- inputs -----------------------------------------------------------------------------------------------------

    def _source(self, url: Url, storage: Storage) -> Source:
        if url.scheme == "s3":
            from .s3 import S3Source  # noqa: PLC0415 - as above

            return S3Source(self._client(), url)
        from .web import WebSource  # noqa: PLC0415 - as above

        return WebSource(url, storage.private_hosts)

    def _fetch(self, request: Fetch) -> None:
        url, place = parsed(request.url), Path(request.place)
        source = self._source(url, request.storage)
        remote = self._look_patiently(source)
        if request.storage.largest and remote.size > request.storage.largest:
            raise PlaceError(
                "large",
                f"{request.url} has {remote.size:,} bytes, and at most {request.storage.largest:,} are allowed",
                "Have the operator raise `max_temp_size`.",
            )
        path = place / url.name
        version = self._download(source, remote, path, url, request.storage)
        self._send(Fetched(path=str(path), version=version))

    def _look_patiently(self, source: Source) -> RemoteFile:
        """Look for the file, and try again for a while if the server cannot be reached."""
        for tries in range(1, _TRIES):
            try:
                return source.look()
            except PlaceError as error:
                if error.kind != "unreachable":
                    raise
            time.sleep(_PAUSE * 2**tries)
        return source.look()

    def _download(self, source: Source, remote: RemoteFile, path: Path, url: Url, storage: Storage) -> str:
        """Write the file. Returns the SHA-256 of all its bytes."""
        done, reported, tries, digest = 0, 0, 0, hashlib.sha256()
        with path.open("xb") as file:
            while True:
                before = done
                try:
                    for data in source.read(remote, done):
                        self._refuse_full(path.parent, done + len(data), remote.size, url, storage)
                        file.write(data)
                        digest.update(data)
                        done += len(data)
                        if done - reported >= _REPORT_EVERY:
                            reported = done
                            self._send(Moved(done=done, total=remote.size))
                except PlaceError as error:
                    tries = 0 if done > before else tries + 1
                    if error.kind != "unreachable" or tries >= _TRIES or (done and not remote.resumes):
                        raise
                    time.sleep(_PAUSE * 2**tries)
                    continue
                break
            if remote.size and done != remote.size:
                raise PlaceError("unreachable", f"{url.text} ended after {done:,} of {remote.size:,} bytes")
        return digest.hexdigest()

    def _refuse_full(self, folder: Path, done: int, size: int, url: Url, storage: Storage) -> None:
        if size and done > size:
            raise PlaceError("changed", f"{url.text} sent more bytes than it announced")
        if storage.largest and done > storage.largest:
            raise PlaceError("large", f"{url.text} has more than the {storage.largest:,} bytes that are allowed")
        if done % _LOOK_EVERY < CHUNK:  # and at the beginning, for all that is to come
            free = shutil.disk_usage(folder).free
            if free - max(0, size - done) < _LEFT_FREE:
                raise PlaceError(
                    "failed",
                    f"no space left on device: {url.text} has {size:,} bytes, and {free:,} are free in {folder}",
                    "Free space there, or choose another `temp_dir`.",
                )

    # --- outputs ----------------------------------------------------------------------------------------------------

    def _store(self, request: Store) -> None:
        from .s3 import S3Upload  # noqa: PLC0415 - loaded only when needed

        folder = Path(request.folder)
        make_folders(folder)
        self._sweep(folder)
        note = folder / "uploads" / f"{request.name}.json"
        client = self._client()
        try:
            lock = hold(lock_of(note), _LOCKED_WITHIN)
        except LockHeld:
            raise unreachable(request.url, "the upload is being cancelled") from None
        upload = S3Upload(client, parsed(request.url), request.owner, note, overwrite=request.overwrite)

        def call_off() -> None:
            upload.call_off()
            if not exists(note):
                lock_of(note).unlink(missing_ok=True)
            os.close(lock)

        try:
            with self._when_unwanted(call_off):
                upload.send(Path(request.path), lambda done, total: self._send(Moved(done=done, total=total)))
            self._send(Ready())
            if isinstance(self._receive(), Appear):
                upload.appear()
                self._send(Stored())
        finally:
            call_off()

    @contextmanager
    def _when_unwanted(self, call_off: Callable[[], None]) -> Iterator[None]:
        """Cancel the upload, even in the middle of a part, and end the process when the other end is closed.

        No request comes while bytes are sent, so a readable descriptor means that the other end was closed. The process
        that closes it waits only briefly, and sending a part may take longer.
        """
        if self._requests is None:
            yield
            return
        bell, rope = os.pipe()

        def watch(requests: int) -> None:
            if bell not in select.select([requests, bell], [], [])[0]:
                call_off()
                os._exit(0)

        thread = threading.Thread(target=watch, args=(self._requests,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            os.close(rope)
            thread.join()
            os.close(bell)

    def _sweep(self, folder: Path) -> int:
        """Cancel the uploads that no process continues. Returns how many."""
        count = 0
        uploads = folder / "uploads"
        for note in sorted({*uploads.glob("*.json"), *(path.with_suffix("") for path in uploads.glob("*.lock"))}):
            try:
                lock = hold(lock_of(note))
            except (LockHeld, OSError):
                continue
            try:
                note.with_suffix(".new").unlink(missing_ok=True)
                if exists(note):
                    from .s3 import call_off_noted  # noqa: PLC0415 - as above

                    count += call_off_noted(self._client, note)
                if not exists(note):
                    lock_of(note).unlink(missing_ok=True)
            except PlaceError:
                continue  # the note stays for a process with the right credentials
            finally:
                os.close(lock)
        return count

    # --- the doctor -------------------------------------------------------------------------------------------------

    def _look(self, request: Look) -> None:
        url = parsed(request.url)
        if url.scheme == "s3":
            from .s3 import credentials_from, look_into  # noqa: PLC0415 - as above

            client = self._client()
            by = credentials_from(client)
            look_into(client, url)
            self._send(Reached(by=by))
            return
        try:
            self._source(url, request.storage).look()
        except PlaceError as error:
            if error.kind in ("forbidden", "unreachable", "failed"):  # otherwise the server works, but has no such file
                raise
        self._send(Reached())


if __name__ == "__main__":
    main()
