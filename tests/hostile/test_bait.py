"""The crafted files harm a careless reader; otherwise an untouched trap would prove little."""

import shutil
import subprocess
from pathlib import Path

import imageio_ffmpeg
import pytest
from crafting import SECRET_TEXT, Bait, Crafted, open_trap
from films import FILMS
from papers import PAPERS

from tasktrail.handlers.document.libreoffice import write_profile

CARELESS = ["-protocol_whitelist", "file,http,tcp,crypto,data,concat,subfile"]
HLS = ["-f", "hls", "-allowed_extensions", "ALL", "-extension_picky", "0"]
STRACE, OFFICE = shutil.which("strace"), shutil.which("soffice")


def crafted(files: list[Crafted], name: str) -> Crafted:
    return next(file for file in files if file.name == name)


def decode(path: Path, reader: list[str], *before: str) -> None:
    """Decode by an ffmpeg program without restrictions, which is told which of its readers to use."""
    program = [imageio_ffmpeg.get_ffmpeg_exe(), "-v", "error", "-nostdin", *CARELESS]
    subprocess.run([*before, *program, *reader, "-i", str(path), "-f", "null", "-"], capture_output=True, check=False)


@pytest.mark.parametrize(
    ("name", "reader"),
    [("remote.m3u8", HLS), ("remote.mp4", HLS), ("key.mp4", HLS), ("dash.mp4", ["-f", "dash"])],
)
def test_a_careless_player_follows_the_address_in_a_film(tmp_path: Path, name: str, reader: list[str]) -> None:
    path = tmp_path / name
    with open_trap() as trap:
        crafted(FILMS, name).make(path, Bait(tmp_path / "secret.txt", trap.url))
        decode(path, reader)
        assert trap.visits


@pytest.mark.skipif(STRACE is None, reason="strace, which shows the system calls, is not installed")
@pytest.mark.parametrize(("name", "reader"), [("list.mp4", HLS), ("concat.mp4", ["-f", "concat", "-safe", "0"])])
def test_a_careless_player_opens_the_file_that_a_film_names(tmp_path: Path, name: str, reader: list[str]) -> None:
    path, secret, trace = tmp_path / name, tmp_path / "secret.txt", tmp_path / "trace.txt"
    secret.write_text(SECRET_TEXT)
    crafted(FILMS, name).make(path, Bait(secret, "http://127.0.0.1:9"))
    decode(path, reader, str(STRACE), "-f", "-e", "trace=openat", "-s", "4096", "-o", str(trace))
    opened = [line for line in trace.read_text().splitlines() if str(secret) in line]
    assert opened
    assert not any(" = -1 " in line for line in opened)


@pytest.mark.slow
@pytest.mark.skipif(OFFICE is None, reason="LibreOffice is not installed")
def test_a_careless_office_follows_the_links_in_a_document(tmp_path: Path) -> None:
    # LibreOffice 26.8 follows them only from places that the user trusts.
    settings = (
        ("Common/Security/Scripting", "SecureURL", f"<it>{tmp_path.as_uri()}</it>"),
        ("Writer/Content/Update", "Link", "2"),  # always
    )
    write_profile(tmp_path / "profile", settings)
    path = tmp_path / "elsewhere.rtf"
    with open_trap() as trap:
        crafted(PAPERS, path.name).make(path, Bait(tmp_path / "secret.txt", trap.url))
        home = f"-env:UserInstallation={(tmp_path / 'profile').as_uri()}"
        command = [str(OFFICE), "--headless", home, "--convert-to", "pdf", "--outdir", str(tmp_path), str(path)]
        subprocess.run(command, capture_output=True, check=False, timeout=100)
        assert trap.visits
