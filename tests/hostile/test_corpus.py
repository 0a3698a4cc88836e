"""Crafted files, given to every type that may take them through a real service, under a system-call trace."""

import json
import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from campaign import HARMLESS, OUTPUTS
from crafting import SECRET_TEXT, Bait, Crafted, Trap, data, open_trap
from films import FILMS
from noises import NOISES
from papers import PAPERS
from pictures import PICTURES
from PIL import Image
from shapes import SHAPES

pytestmark = pytest.mark.slow

HERE = Path(__file__).parent
MOST_MEMORY = 2 * 1024**3
MOST_SECONDS = 60.0
_BEGUN = " <unfinished ...>"
_GOES_ON = re.compile(r"<\.\.\. \w+ resumed>(.*)")
STRACE = shutil.which("strace")
_OPENS = "open,openat,openat2,creat"
_CHANGES = (
    "rename,renameat,renameat2,link,linkat,symlink,symlinkat,unlink,unlinkat,mkdir,mkdirat,rmdir,truncate,mknodat"
)
_TALKS = "connect,sendto,sendmsg,sendmmsg"
_WRITES = re.compile(rf"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC|creat\(|\b({_CHANGES.replace(',', '|')})\(")
_TALK = re.compile(rf"\b({_TALKS.replace(',', '|')})\(")
_PATH = re.compile(r'(?:(?:AT_FDCWD|\d+)<([^>]*)>, )?"((?:[^"\\]|\\.)*)"')
"""A path, and the folder that it is relative to."""
_LOOKED_FROM_OFFICE = re.compile(r"/office/home>, .*\bO_RDONLY\|O_CLOEXEC\)\s+= -1 EACCES ")
"""A refused look from the folder in which LibreOffice runs."""


def _link(path: Path, bait: Bait) -> None:
    path.symlink_to(bait.secret)


def _endless_link(path: Path, _bait: Bait) -> None:
    path.symlink_to("/dev/zero")


def _pipe(path: Path, _bait: Bait) -> None:
    os.mkfifo(path)


ANY = [
    *(Crafted(f"empty{suffix}", "any", data(b"")) for suffix in (".jpg", ".mp4", ".pdf", ".docx", ".stl", ".glb")),
    Crafted("noise.bin", "any", data(bytes(range(251)) * 300)),
    Crafted("link.png", "any", _link),
    Crafted("zero.png", "any", _endless_link),
    Crafted("pipe.png", "any", _pipe),
]
CORPUS = [*PICTURES, *FILMS, *NOISES, *PAPERS, *SHAPES, *ANY]


class Campaign(NamedTuple):
    folder: Path
    secret: Path
    trap: Trap
    results: list[dict[str, Any]]
    trace: list[str]


@pytest.fixture(scope="module")
def campaign(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Campaign]:
    """The whole corpus, processed once."""
    base = tmp_path_factory.mktemp("hostile")
    folder, secret, trace = base / "house", base / "secret.txt", base / "trace.txt"
    (folder / "in").mkdir(parents=True)
    (folder / "out").mkdir()
    secret.write_text(SECRET_TEXT)
    with open_trap() as trap:
        for crafted in CORPUS:
            crafted.make(folder / "in" / crafted.name, Bait(secret, trap.url))
        Image.effect_noise((400, 300), 60).save(folder / "in" / HARMLESS)
        (folder / "families.json").write_text(json.dumps({crafted.name: crafted.family for crafted in CORPUS}))
        tracer = [STRACE, "-f", "-qq", "-y", "--seccomp-bpf", "-e", f"trace={_OPENS},{_CHANGES},{_TALKS}"]
        tracer += ["-s", "4096", "-o", str(trace)]
        command = [sys.executable, str(HERE / "campaign.py"), str(folder)]
        plain = {
            name: value for name, value in os.environ.items() if not name.startswith("COVERAGE")
        }  # it writes files
        try:
            done = subprocess.run(
                [*(filter(None, tracer) if STRACE else ()), *command],
                env={**plain, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONWARNINGS": "ignore", "PYTHONUNBUFFERED": "1"},
                capture_output=True,
                text=True,
                timeout=110,
                check=False,
            )
        except subprocess.TimeoutExpired as error:
            ended = (error.stderr or b"").decode(errors="replace")
            pytest.fail(f"not all had ended after {error.timeout:g} s; the last that had:\n{ended[-3000:]}")
        assert done.returncode == 0, done.stderr[-3000:]
        results = json.loads((folder / "results.json").read_text())
        yield Campaign(folder, secret, trap, results, list(whole_calls(trace.read_text())) if STRACE else [])


def of(campaign: Campaign, name: str) -> list[dict[str, Any]]:
    found = [result for result in campaign.results if result["name"] == name]
    if not found:
        pytest.skip("no type that would take it is installed")
    return found


@pytest.mark.parametrize("name", [crafted.name for crafted in CORPUS])
def test_a_crafted_file_is_refused_or_processed_within_its_limits(campaign: Campaign, name: str) -> None:
    for result in of(campaign, name):
        assert result["status"] in ("completed", "failed", "refused"), result
        assert (result["error"] == "") == (result["status"] == "completed"), result
        assert result["error_type"] not in ("WorkerLost", "ProtocolError"), result
        assert result.get("memory_used", 0) < MOST_MEMORY, result
        assert result.get("time_used", 0) < MOST_SECONDS, result


@pytest.mark.parametrize("name", ["link.png", "zero.png", "pipe.png"])
def test_what_is_no_plain_file_below_the_roots_is_refused_before_anything_is_recorded(
    campaign: Campaign, name: str
) -> None:
    assert {(result["status"], result["error_type"]) for result in of(campaign, name)} == {("refused", "InvalidPath")}


def test_a_failed_task_leaves_no_output_and_a_completed_one_its_whole_output(campaign: Campaign) -> None:
    expected = {result["output_file"] for result in campaign.results if result["status"] == "completed"}

    assert {str(path) for path in (campaign.folder / "out").rglob("*")} == expected


def test_harmless_work_in_between_is_done_as_ever(campaign: Campaign) -> None:
    assert {result["status"] for result in of(campaign, HARMLESS)} == {"completed"}


def test_nobody_followed_an_address(campaign: Campaign) -> None:
    assert campaign.trap.visits == []


def test_the_trap_counts_a_visit() -> None:
    with open_trap() as trap:
        host, port = trap.url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port))) as visitor:
            assert visitor.recv(1) == b"", "the trap has seen the visitor and closed"
        assert len(trap.visits) == 1


def whole_calls(trace: str) -> Iterator[str]:
    """Return the lines, with calls joined that strace prints in two parts because other processes ran meanwhile."""
    begun: dict[str, str] = {}
    for line in trace.splitlines():
        process = line.split(" ", 1)[0]
        if line.endswith(_BEGUN):
            begun[process] = line.removesuffix(_BEGUN)
        elif process in begun and (rest := _GOES_ON.search(line)):
            yield begun.pop(process) + rest[1]
        else:
            yield line
    yield from begun.values()


def test_what_the_trace_tells_in_two_parts_is_put_together() -> None:
    trace = """\
7  openat(3</>, "a" <unfinished ...>
8  openat(3</>, "b") = 4
7  <... openat resumed>) = -1 ENOENT
9  x <unfinished ...>"""
    assert list(whole_calls(trace)) == ['8  openat(3</>, "b") = 4', '7  openat(3</>, "a") = -1 ENOENT', "9  x"]


def test_no_output_holds_the_secret(campaign: Campaign) -> None:
    for path in (campaign.folder / "out").iterdir():
        assert SECRET_TEXT.encode() not in path.read_bytes()


def test_every_built_in_type_is_in_the_campaign() -> None:
    from tasktrail.handlers.registry import Registry  # noqa: PLC0415 - loads every type

    of_convert = {"video_part"}  # reads a film by the code of `video_convert`
    assert {task_type.name for task_type in Registry.load()} - of_convert <= set(OUTPUTS)


traced = pytest.mark.skipif(STRACE is None, reason="strace, which shows the system calls, is not installed")


def touched(campaign: Campaign, *, changed: bool) -> set[str]:
    """Return paths of successful calls: of those that write, make, move or remove, or of those that only open.

    A path opened with O_PATH cannot be read: the sandbox uses it to name what an attempt may reach.
    """
    lines = [line for line in campaign.trace if " = -1 " not in line and "O_PATH" not in line]
    calls = [line for line in lines if not _TALK.search(line)]
    return {
        os.path.normpath(Path(folder, path))
        for line in calls
        if bool(_WRITES.search(line)) == changed
        for folder, path in _PATH.findall(line)
    }


@traced
def test_nothing_outside_of_the_work_and_output_folders_was_changed(campaign: Campaign) -> None:
    # If it may, which root may, LibreOffice marks its own installation, lists its fonts, and makes a socket in its
    # folder.
    tools = (
        *("/dev/null", "/proc/", "/usr/lib/libreoffice/share/uno_packages/cache", "/var/cache/fontconfig"),
        "OSL_PIPE_0_SingleOffice",
    )
    allowed = (str(campaign.folder / "data"), str(campaign.folder / "out"), str(campaign.folder / "results.json"))
    changed = touched(campaign, changed=True)

    assert any(path.startswith(str(campaign.folder / "out")) for path in changed), "the trace shows what is written"
    assert {path for path in changed if not path.startswith((*allowed, *tools))} == set()


@traced
def test_nothing_but_the_inputs_and_what_is_installed_was_opened_for_reading(campaign: Campaign) -> None:
    installed = ("/usr/", "/lib", "/etc/", "/proc/", "/sys/", "/dev/", "/var/cache/fontconfig")
    ours = (str(campaign.folder), str(Path(__file__).parents[2]), sys.prefix, sys.base_prefix)
    dconf = f"/run/dconf/user/{os.getuid()}"  # LibreOffice looks for the desktop's settings
    printer = "/SGENPRT"  # and for the description of its generic printer, in a folder without a name
    homes = (*installed, *ours, *map(os.path.realpath, ours))
    read = touched(campaign, changed=False)

    assert str(campaign.folder / "in" / HARMLESS) in read, "the trace shows what is read"
    assert {path for path in read if not path.startswith(homes)} <= {
        "/",
        "/dev",
        "/proc",
        "/tmp",
        "/var/tmp",
        dconf,
        printer,
    }


@traced
def test_none_but_libreoffice_tries_to_open_the_planted_secret_and_the_sandbox_refuses_it(campaign: Campaign) -> None:
    """LibreOffice 25.2 follows links to pictures of bullets and INCLUDEPICTURE, whatever its profile says."""
    assert len(campaign.trace) > 1000, "the trace is there"
    tries = [line for line in campaign.trace if str(campaign.secret) in line]
    assert [line for line in tries if not _LOOKED_FROM_OFFICE.search(line)] == []


@traced
def test_nobody_tried_to_reach_a_network(campaign: Campaign) -> None:
    talks = [line for line in campaign.trace if _TALK.search(line)]

    assert [line for line in talks if "AF_INET" in line] == []
