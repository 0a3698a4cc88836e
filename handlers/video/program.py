"""The ffmpeg program of this machine: its place and abilities, and what to install. The service imports this."""

import os
import re
import shutil
import subprocess
from functools import cache
from pathlib import Path

import msgspec

INSTALL_FFMPEG = (
    "Install ffmpeg 5.1 or later (Debian and Ubuntu: apt install ffmpeg; Fedora: dnf install ffmpeg-free; "
    "macOS: brew install ffmpeg)"
)
INSTALL_VMAF = (
    "Put an ffmpeg that is built with libvmaf first on the search path (that of Homebrew and the static builds that "
    "ffmpeg.org links to are; that of Debian is not)"
)
HARDWARE = ("nvenc", "qsv", "amf", "vaapi", "videotoolbox")
"""The second part of FFmpeg's names of hardware encoders, one per maker."""
ENCODER_FAMILIES = {"h264": "h264", "h265": "hevc", "vp9": "vp9", "av1": "av1"}
"""Our name of a codec → the first part of FFmpeg's names of its encoders."""
_OLDEST = (57, 28)
"""libavutil of FFmpeg 5.1, the first with all the options that are used. Builds from git state no other version."""
_TIMEOUT = 10.0


class Program(msgspec.Struct, frozen=True, kw_only=True):
    """The program's facts, by its own output."""

    path: Path
    version: str = ""
    built: str = ""
    """Everything that it prints about its build. Another build encodes differently."""
    encoders: frozenset[str] = frozenset()
    filters: frozenset[str] = frozenset()
    trouble: str = ""
    """Why it cannot be used; empty if it can."""

    @property
    def hardware(self) -> tuple[str, ...]:
        """The hardware encoders that it lists. Only a trial shows whether their hardware is there."""
        wanted = (f"{codec}_{maker}" for maker in HARDWARE for codec in ENCODER_FAMILIES.values())
        return tuple(name for name in wanted if name in self.encoders)

    @property
    def measures_vmaf(self) -> bool:
        """Whether it is built with libvmaf."""
        return "libvmaf" in self.filters

    def summary(self) -> str:
        """Path, version and hardware encoders in a line, for people."""
        if self.trouble:
            return f"{self.path}: {self.trouble}"
        listed = ", ".join(self.hardware) or "none"
        return f"{self.path}, version {self.version}; hardware encoders that it lists: {listed}"


def find_program() -> Path | None:
    """The program on the search path, or None."""
    found = shutil.which("ffmpeg")
    return Path(found).absolute() if found else None


def examine_program(path: Path) -> Program:
    """Ask the program for its facts, once for each file that stands at `path`."""
    try:
        status = path.stat()
    except OSError as error:
        return Program(path=path, trouble=str(error.strerror))
    return _examine(path, status.st_ino, status.st_mtime_ns)


def program_lines() -> tuple[str, ...]:
    """Lines for `tasktrail types`: whether the program is here, and its abilities."""
    path = find_program()
    program = examine_program(path) if path else None
    return (f"ffmpeg: {program.summary() if program else 'not installed'}", f"quality by {metrics(program)}")


def metrics(program: Program | None) -> str:
    """The metrics in which a quality can be given, for people."""
    if program is not None and not program.trouble and program.measures_vmaf:
        return "xpsnr, ssim, and vmaf of this ffmpeg"
    return "xpsnr, ssim; vmaf needs an ffmpeg with libvmaf"


def environment() -> dict[str, str]:
    """Our environment, without the variable that makes the program write report files."""
    return {name: value for name, value in os.environ.items() if name != "FFREPORT"}


@cache
def _examine(path: Path, _inode: int, _changed: int) -> Program:
    try:
        built, encoders, filters = (ask_program(path, asked) for asked in ("-version", "-encoders", "-filters"))
    except (OSError, subprocess.SubprocessError) as error:
        return Program(path=path, trouble=f"it cannot be run: {error}")
    version = re.search(r"^ffmpeg version (\S+)", built)
    library = re.search(r"^libavutil\s+(\d+)\.\s*(\d+)", built, re.MULTILINE)
    if version is None or library is None:
        return Program(path=path, trouble="it does not answer as ffmpeg does")
    old = (int(library[1]), int(library[2])) < _OLDEST
    return Program(
        path=path,
        version=version[1],
        built=built,
        encoders=frozenset(re.findall(r"^ [VA][.A-Z]{5} (\w[\w-]*) ", encoders, re.MULTILINE)),
        filters=frozenset(re.findall(r"^ [A-Z.]{2,3} (\w+) ", filters, re.MULTILINE)),
        trouble=f"version {version[1]} is older than 5.1" if old else "",
    )


def ask_program(path: Path, *arguments: str) -> str:
    """Run the program and return its output. Raises OSError or SubprocessError."""
    done = subprocess.run(
        [str(path), "-hide_banner", "-nostdin", *arguments],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        check=True,
        timeout=_TIMEOUT,
        env=environment(),
    )
    return done.stdout.decode(errors="replace")
