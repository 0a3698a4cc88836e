"""LibreOffice: its place, and how it makes a PDF of an office document.

It runs without the document's macros, the user's profile or the network, and updates no links. It still reads some
pictures that are linked by a path or an address: only the sandbox prevents that. No Pillow is loaded here: the service
imports this.
"""

import os
import re
import resource
import shutil
import signal
import subprocess
import sys
import unicodedata
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Iterator
from contextlib import suppress
from functools import cache
from itertools import chain
from pathlib import Path
from typing import BinaryIO, NamedTuple

from ...events.existence import is_file
from ..attempt_output import pass_on
from ..contract import Unusable
from ..errors import CpuLimitReached
from ..process import seccomp
from .archive import inspect_archive
from .kinds import OFFICE, PACKED

_NAMES = ("soffice", "libreoffice")
_PLACES = (
    Path("/usr/lib/libreoffice/program/soffice"),
    Path("/usr/lib64/libreoffice/program/soffice"),
    Path("/opt/libreoffice/program/soffice"),
    Path("/snap/bin/libreoffice"),
    Path("/Applications/LibreOffice.app/Contents/MacOS/soffice"),
)
INSTALL_LIBREOFFICE = (
    "Install LibreOffice (Debian and Ubuntu: apt install libreoffice-writer-nogui libreoffice-calc-nogui "
    "libreoffice-impress-nogui; Fedora: dnf install libreoffice-writer libreoffice-calc libreoffice-impress; "
    "macOS: brew install --cask libreoffice)"
)
_POLL = 0.1
"""Seconds between two checks whether the attempt must end."""
_START_AGAIN = 81
"""The exit code of LibreOffice when it has made its profile and must be started again."""
_KILLED = (-signal.SIGKILL, 128 + signal.SIGKILL)
"""Its exit code when it was killed, and that of a script which has started it."""
_NEARLY = 0.8
"""Part of the limit of CPU time from which a failure is put down to it, since the kernel counts by whole ticks."""
_STARTS = 3
_ROOM = 1 << 20
"""Bytes that can be written to a disk that is not full."""
_MOST_PRINTED = 32 << 20
"""Bytes of printed text that are kept: a document may name any number of fonts."""
_TO_PDF = ("--convert-to", "pdf")
_HTML_TO_PDF = ("--infilter=HTML (StarWriter)", "--convert-to", "pdf:writer_pdf_Export")
"""By itself LibreOffice would take it for one endless page."""
_LOADED = b"convert "
"""What LibreOffice prints when it has read the document, and looks only for fonts that its pages have."""
_LOOKED_FOR, _FOUND = b"Match Pattern has ", b"Pattern has "
_OF_FONTCONFIG = (_LOOKED_FOR, _FOUND, b"Best score ", b"FC_DEBUG=")
_RANGE = re.compile(rb"(?<=[=\s])([0-9a-f]{1,6})(?:-([0-9a-f]{1,6}))?(?=\s)")
"""Characters of a font, as `fc-list : charset` prints them: `:charset=20-7e a0`."""
_NAME = re.compile(rb"^:postscriptname=(.+)$", re.MULTILINE)
_SELECTORS = frozenset(map(chr, chain(range(0xFE00, 0xFE10), range(0xE0100, 0xE01F0))))
"""They choose a form of the character before them, and are never drawn."""
_ROW = re.compile(rb"\t([0-9a-f]{4}):((?: [0-9a-f]{8}){8})\s*")
"""256 characters of a set, as fontconfig prints it: a bit for each."""
_FAMILY = re.compile(rb'\tfamily: "([^"]{1,100})"\(s\)')

# Not DisableActiveContent: it leaves the charts of every document blank.
_SETTINGS = (
    ("Common/Security/Scripting", "BlockUntrustedRefererLinks", "true"),
    ("Common/Security/Scripting", "DisableMacrosExecution", "true"),
    ("Common/Security/Scripting", "MacroSecurityLevel", "3"),
    ("Writer/Content/Update", "Link", "0"),  # never; Writer and Calc use different numbers
    ("Calc/Content/Update", "Link", "1"),
)
_ITEM = (
    '<item oor:path="/org.openoffice.Office.{place}"><prop oor:name="{name}" oor:op="fuse">'
    "<value>{value}</value></prop></item>"
)
_PROFILE = (
    '<?xml version="1.0" encoding="UTF-8"?>\n<oor:items xmlns:oor="http://openoffice.org/2001/registry" '
    'xmlns:xs="http://www.w3.org/2001/XMLSchema" xmlns:xsi="http://www.w3.org/2001/XMLSchema-instance">{}</oor:items>\n'
)


class OfficeFailedError(RuntimeError):
    """LibreOffice ended without a PDF."""

    def __init__(self, message: str, returncode: int | None = None) -> None:
        super().__init__(message)
        self.returncode = returncode
        """The signal that killed it, as a negative number, by which the rules for a retry know it; None if none did."""


class MadePdf(NamedTuple):
    """A document that LibreOffice has made a PDF of."""

    path: Path
    lacking: list[str]
    """Fonts of the document that this machine does not have; none where LibreOffice works without fontconfig."""
    boxes: list[str]
    """Characters that LibreOffice has set or measured and no font of this machine has; none where fontconfig does not
    tell."""


def find_libreoffice() -> Path | None:
    """The program, on the search path or in one of the usual places; None if it is not installed."""
    for name in _NAMES:
        if found := shutil.which(name):
            return Path(found)
    return next((place for place in _PLACES if is_file(place)), None)


def require_libreoffice(name: str, kind: str) -> Path:
    """The program. If it is missing, raises Unusable, which says what to install, and what a document can do without.

    Args:
        name: of the file, for the message.
        kind: of the document, by its content.
    """
    program = find_libreoffice()
    if program is None:
        carried = "; document_preview with the option office=thumbnail shows the picture that the document carries"
        raise Unusable(
            f"{name} needs LibreOffice, which is not on this machine. {INSTALL_LIBREOFFICE}"
            f"{carried if kind in PACKED else '; document_preview draws it without' if kind not in OFFICE else ''}"
        )
    return program


def write_profile(folder: Path, settings: Iterable[tuple[str, str, str]]) -> None:
    """Write a new profile of LibreOffice with these settings, each as its place, name and value (XML)."""
    (folder / "user").mkdir(parents=True)
    (folder / "user" / "registrymodifications.xcu").write_text(
        _PROFILE.format("".join(_ITEM.format(place=place, name=name, value=value) for place, name, value in settings))
    )


def convert_to_pdf(source: Path, kind: str, folder: Path, check_stop: Callable[[], None]) -> MadePdf:
    """Make a PDF of the document.

    Args:
        source: the document.
        kind: its kind, by its content: one of `OFFICE`, or `html`, of which our own names no other file.
        folder: made for this, and used for nothing else. LibreOffice sees only a copy of the document there, so that
            relative links lead nowhere.
        check_stop: raises an exception to stop the work; then no process of it is left.

    Raises:
        Unusable: LibreOffice is missing, or the document must not be opened.
        OfficeFailedError: LibreOffice made no PDF of it.
        CpuLimitReached: it has used the CPU time that the kernel lets a process of the attempt have.
        OSError: the disk is full.
    """
    program = require_libreoffice(source.name, kind)
    if kind in PACKED:
        inspect_archive(source)
    shutil.rmtree(folder, ignore_errors=True)
    for name in ("in", "out", "home"):
        (folder / name).mkdir(parents=True)
    write_profile(folder / "profile", _SETTINGS)
    document = folder / "in" / f"document.{kind}"
    shutil.copyfile(source, document)
    limit = resource.getrlimit(resource.RLIMIT_CPU)[0]
    for _ in range(_STARTS):
        before = _cpu_of_children()
        code, line, asked = _run(_command(program, folder, document), folder, check_stop)
        if code != _START_AGAIN:
            break
    # By its exit code it cannot be told: LibreOffice makes a SIGABRT of the kernel's SIGXCPU.
    if code and limit != resource.RLIM_INFINITY and _cpu_of_children() - before >= _NEARLY * limit:
        raise CpuLimitReached(
            f"LibreOffice used the {limit:,} s of CPU time that the attempt may have, reading {source.name}"
        )
    pdf = folder / "out" / "document.pdf"
    if code in _KILLED:  # what it had written until then may be there
        raise OfficeFailedError(
            f"LibreOffice was killed by SIGKILL while it read {source.name}, maybe as memory had run out",
            -signal.SIGKILL,
        )
    if not is_file(pdf) or not pdf.stat().st_size:
        (folder / "room").write_bytes(bytes(_ROOM))  # on a full disk LibreOffice fails without a word
        raise OfficeFailedError(
            f"LibreOffice made no PDF of {source.name} ({line or 'it said nothing'}): "
            "save it anew with the program it comes from"
        )
    return MadePdf(pdf, asked.fonts, without_font(asked.characters))


def _cpu_of_children() -> float:
    """CPU seconds of all child processes that have ended."""
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def without_font(characters: set[str]) -> list[str]:
    """The characters that no font has which LibreOffice finds; none where fontconfig does not tell."""
    wanted = sorted(filter(_is_drawn, characters))
    if not wanted or not (listed := _listed("charset")):
        return []
    found = set(_SELECTORS)
    for first, last in set(_RANGE.findall(listed)):
        begin, end = chr(int(first, 16)), chr(int(last or first, 16))
        found.update(wanted[bisect_left(wanted, begin) : bisect_right(wanted, end)])
    return [one for one in wanted if one not in found]


def installed_fonts() -> set[bytes]:
    """The PostScript names of the fonts that LibreOffice finds; none where fontconfig does not tell."""
    return set(_NAME.findall(_listed("postscriptname")))


def _listed(what: str) -> bytes:
    """What fontconfig tells of all fonts; empty if it does not."""
    program = shutil.which("fc-list")
    if program is None:
        return b""
    environment = {"PATH": os.environ.get("PATH", os.defpath), "HOME": os.devnull}  # as it has no fonts of a user
    done = subprocess.run([program, ":", what], capture_output=True, env=environment, check=False)
    return b"" if done.returncode else done.stdout


def _is_drawn(character: str) -> bool:
    """Whether it has a shape of its own. Those for private use have: fonts of icons define them."""
    return unicodedata.category(character) == "Co" or (character.isprintable() and not character.isspace())


def _command(program: Path, folder: Path, document: Path) -> list[str]:
    switches = ("--headless", "--norestore", "--nolockcheck", "--nodefault", "--nologo", "--nofirststartwizard")
    profile = f"-env:UserInstallation={(folder / 'profile').as_uri()}"
    meeting = "-env:OSL_SOCKET_PATH=."  # a socket's path must be short; its folder's may be long
    filters = _HTML_TO_PDF if document.suffix == ".html" else _TO_PDF
    task = (*filters, "--outdir", str(folder / "out"), str(document))
    return [*without_network(), *_kept_from_tmp(program), profile, meeting, *switches, *task]


def _kept_from_tmp(program: Path) -> tuple[str, ...]:
    """The command that makes the program's processes meet in a folder of the task instead of /tmp.

    LibreOffice avoids /tmp only if it may not write there. Only its binary checks that, not the script that starts it.
    """
    binary = program.resolve().with_name("soffice.bin")
    if not is_file(binary):
        return (str(program),)
    return (sys.executable, "-I", "-S", seccomp.__file__, str(binary))


@cache
def without_network() -> tuple[str, ...]:
    """The command that starts another one without the network; empty if the machine does not allow that."""
    for command in (("unshare", "--net"), ("unshare", "--map-current-user", "--net")):
        if shutil.which(command[0]):
            done = subprocess.run([*command, "true"], capture_output=True, check=False)
            if done.returncode == 0:
                return command
    return ()


class _Asked(NamedTuple):
    """What LibreOffice did not find by itself, and asked fontconfig for."""

    fonts: list[str]
    characters: set[str]
    """Those that the font of their text lacks. Another may have them."""


def _run(command: list[str], folder: Path, check_stop: Callable[[], None]) -> tuple[int, str, _Asked]:
    """The program's exit code, the last line that it printed, and what it did not find."""
    environment = {
        "PATH": os.pathsep.join(filter(None, (os.environ.get("PATH"), os.defpath))),  # soffice is a shell script
        "HOME": str(folder / "home"),
        "TMPDIR": str(folder / "home"),
        "LANG": "C.UTF-8",
        "SAL_USE_VCLPLUGIN": "svp",  # no display, even if one is installed
        "FC_DEBUG": "1",  # fontconfig prints what it is asked for: fonts that LibreOffice does not find
        "CUPS_SERVER": str(folder / "no-printer"),  # otherwise it asks port 631
    }
    (folder / "printed").unlink(missing_ok=True)  # of an earlier start
    with (folder / "printed").open("ab") as printed:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=printed,
            stderr=subprocess.STDOUT,
            cwd=folder / "home",
            env=environment,
            start_new_session=True,
        )
    try:
        while process.poll() is None:
            check_stop()
            if (folder / "printed").stat().st_size > _MOST_PRINTED:
                os.truncate(folder / "printed", 0)
            try:
                process.wait(_POLL)
            except subprocess.TimeoutExpired:
                continue
    finally:
        _kill_group(process)
        with (folder / "printed").open("rb") as printed, (folder / "said").open("w+b") as said:
            asked = _sift(printed, said)
            lines = pass_on(said)
    return process.returncode, "".join(lines[-1:]), asked


def _sift(printed: BinaryIO, said: BinaryIO) -> _Asked:
    """Write what LibreOffice itself has printed to `said`; the rest tells what of the document it did not find.

    It asks fontconfig only then: for a font, or, with a set of characters, where a font lacks some.
    """
    lacking: set[str] = set()
    characters: set[str] = set()
    loaded = inside = False
    family = b""
    for line in printed:
        if line.startswith(_OF_FONTCONFIG):
            if family:
                lacking.add(family.decode(errors="replace"))
            inside, family = True, b""
            looked_for = line.startswith(_LOOKED_FOR)
        elif inside and (line.startswith((b"\t", b"(")) or not line.strip()):
            if not (looked_for and loaded):
                continue
            if found := _FAMILY.match(line):
                family = found[1]
            elif line.startswith(b"\tcharset:"):
                family = b""
            elif row := _ROW.fullmatch(line):
                characters.update(_members(int(row[1], 16) << 8, row[2].split()))
        else:
            inside, loaded = False, loaded or line.startswith(_LOADED)
            said.write(line)
    return _Asked(sorted(lacking), characters)


def _members(first: int, words: list[bytes]) -> Iterator[str]:
    """The characters of a row from `first`, of which each word has 32."""
    for place, word in enumerate(words):
        bits = int(word, 16)
        yield from (chr(first + 32 * place + bit) for bit in range(32) if bits >> bit & 1)


def _kill_group(process: subprocess.Popen[bytes]) -> None:
    """Kill the program and all that it has started: they are in its session, and must not outlive the attempt."""
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL)
    process.wait()
