"""The diagnoses of `doctor` about the sound encoders on this machine."""

from collections.abc import Iterator

import av
from av.codec import Codec
from av.filter import Filter

from ..contract import Diagnosis
from .convert.options import CODECS

_FILTERS = ("aresample", "atrim", "volume", "alimiter", "ebur128")


def checkup() -> Iterator[Diagnosis]:
    """Whether the installed build has every encoder and every filter."""
    codec = ".".join(map(str, av.library_versions.get("libavcodec", ())))
    versions = f"PyAV {av.__version__}, libavcodec {codec}"
    missing = [f"encoder {kind.encoder}" for kind in CODECS.values() if not _is_there(Codec, kind.encoder, "w")]
    missing += [f"filter {name}" for name in _FILTERS if not _is_there(Filter, name)]
    if missing:
        yield Diagnosis(
            "sound", "warn", f"{versions}; without {', '.join(missing)}", "Install PyAV from its wheel on PyPI."
        )
    else:
        yield Diagnosis("sound", "ok", f"{versions}; all encoders and filters of sound are there")


def _is_there(kind: type, *arguments: str) -> bool:
    try:
        kind(*arguments)
    except ValueError:
        return False
    return True
