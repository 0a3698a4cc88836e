"""The diagnoses of `doctor` about FFmpeg on this machine: the library and the program."""

from collections.abc import Iterator

import av
from av.codec import Codec

from ..contract import Diagnosis
from .convert.options import AUDIO_ENCODERS, VIDEO_ENCODERS
from .program import INSTALL_FFMPEG, examine_program, find_program, metrics


def checkup() -> Iterator[Diagnosis]:
    """Whether the installed build has every encoder, and whether the program can be used."""
    codec = ".".join(map(str, av.library_versions.get("libavcodec", ())))
    versions = f"PyAV {av.__version__}, libavcodec {codec}"
    missing = [name for name in (*VIDEO_ENCODERS.values(), *AUDIO_ENCODERS.values()) if not _is_there(name)]
    if missing:
        message = f"{versions}; without encoder {', encoder '.join(missing)}"
        yield Diagnosis("media", "warn", message, "Install PyAV from its wheel on PyPI.")
    else:
        yield Diagnosis("media", "ok", f"{versions}; all encoders are there")
    yield _program()


def _is_there(encoder: str) -> bool:
    try:
        Codec(encoder, "w")
    except ValueError:
        return False
    return True


def _program() -> Diagnosis:
    path = find_program()
    if path is None:
        asking = "only `backend` ffmpeg and `quality` by vmaf of video_convert ask for it"
        return Diagnosis("ffmpeg", "ok", f"the program is not there; {asking}")
    program = examine_program(path)
    if program.trouble:
        remedy = f"{INSTALL_FFMPEG}, if `backend` ffmpeg or `quality` by vmaf of video_convert is wanted."
        return Diagnosis("ffmpeg", "warn", program.summary(), remedy)
    return Diagnosis("ffmpeg", "ok", f"{program.summary()}; quality by {metrics(program)}")
