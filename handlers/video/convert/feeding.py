"""One run of the ffmpeg program: decoded frames go in through a pipe, a finished file comes out.

It is told no name but that of the file it writes, and sees no byte of the input, so a hostile input cannot reach it.
It is in the worker's process group, and ends by itself when the worker is gone, because its pipe then ends.
"""

import fcntl
import os
import select
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, TypeVar

import av
from av.audio.frame import AudioFrame
from av.audio.stream import AudioStream
from av.video.frame import VideoFrame
from av.video.stream import VideoStream

from ...programs import pass_on
from ..errors import ProgramFailedError
from ..program import environment

_POLL = 0.1
"""Seconds between two looks at whether somebody wants it to stop, while the program does not take more."""
_ROOM = 1024 * 1024
"""Bytes in the pipe, where the system allows it; the usual 64 KiB are a fraction of a frame."""

S = TypeVar("S", VideoStream, AudioStream)


class Feed:
    """The running program. Frames must carry their times; they are kept exactly.

    Args:
        command: the program, and what stands before the input.
        arguments: what to do with the input.
        output: the file that it writes; must not exist.
        tick: called while it waits; may raise to end the wait.
    """

    def __init__(
        self, command: Sequence[str], arguments: Sequence[str], output: Path, tick: Callable[[], None]
    ) -> None:
        self._tick = tick
        self._output = output
        self._told: list[str] = []
        self._said = tempfile.TemporaryFile(dir=output.parent)  # noqa: SIM115 - open as long as the program runs
        self._process = subprocess.Popen(
            [*command, *_INPUT, *arguments, "-fflags", "+bitexact", "-f", "mp4", f"file:{output}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.DEVNULL,
            stderr=self._said,
            cwd=output.parent,
            env=environment(),
        )
        assert self._process.stdin is not None
        self._pipe = _Pipe(self._process.stdin.fileno(), tick)
        self.container = av.open(self._pipe, "w", format="nut", options=_BITEXACT, buffer_size=_ROOM)

    def push(self, stream: Any, frame: VideoFrame | AudioFrame | None) -> None:
        """Hand over one frame; none: there are no more. Raises ProgramFailedError."""
        try:
            self.container.mux(stream.encode(frame))
        except BrokenPipeError:
            raise self._failure() from None

    def finish(self) -> None:
        """Wait until the file is whole. Raises ProgramFailedError."""
        assert self._process.stdin is not None
        try:
            self.container.close()
        except BrokenPipeError:
            raise self._failure() from None
        self._process.stdin.close()
        if self._wait():
            raise self._failure()
        self._pass_on()

    def discard(self) -> None:
        """Kill it, and leave nothing of what it wrote."""
        assert self._process.stdin is not None
        self._process.kill()
        self._process.wait()
        self._pipe.over = True
        with suppress(av.error.FFmpegError, OSError):
            self.container.close()
        with suppress(BrokenPipeError):
            self._process.stdin.close()
        self._pass_on()
        self._output.unlink(missing_ok=True)

    def _wait(self) -> int:
        while True:
            with suppress(subprocess.TimeoutExpired):
                return self._process.wait(_POLL)
            self._tick()

    def _failure(self) -> ProgramFailedError:
        """What to say of its end. Where somebody wants the attempt to stop, that is said instead, by `tick`."""
        self._tick()
        code = self._wait()
        said = self._pass_on()
        return ProgramFailedError(f"ffmpeg ended with {code} at {self._output.stem}: {said or 'it said nothing'}")

    def _pass_on(self) -> str:
        """Let the attempt's output have what it said, once; the first line, for the others follow from it."""
        if not self._said.closed:
            with self._said:
                self._told = pass_on(self._said)[:1]
        return "".join(self._told)


SILENT = ("-hide_banner", "-nostdin", "-v", "error")
_INPUT = ("-protocol_whitelist", "pipe", "-f", "nut", "-i", "pipe:0", "-map", "0:0", "-map_metadata", "-1")
_BITEXACT = {"fflags": "+bitexact"}


class _Pipe:
    """The program's standard input, as a file that PyAV writes to. It never waits without looking up."""

    def __init__(self, fd: int, tick: Callable[[], None]) -> None:
        self._fd = fd
        self._tick = tick
        self._ready = select.poll()
        self._ready.register(fd, select.POLLOUT)
        self.over = False
        """Nobody reads any more: what is still written is thrown away."""
        os.set_blocking(fd, False)
        if hasattr(fcntl, "F_SETPIPE_SZ"):
            with suppress(OSError):  # a user may have only so much room in pipes
                fcntl.fcntl(fd, fcntl.F_SETPIPE_SZ, _ROOM)

    def write(self, data: bytes) -> int:
        rest = memoryview(data)
        while rest and not self.over:
            if not self._ready.poll(_POLL * 1000):
                self._tick()
                continue
            with suppress(BlockingIOError):
                rest = rest[os.write(self._fd, rest) :]
        return len(data)
