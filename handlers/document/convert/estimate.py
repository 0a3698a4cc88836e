"""Estimates the needs of `document_convert`. No image library here: the service imports this."""

from typing import Literal, NamedTuple, TypeAlias

from ...contract import Estimate, Job
from ..kinds import MARKDOWN_SUFFIXES, office_suffix
from .options import PDF, DocumentConvertOptions

Family: TypeAlias = Literal["pdf", "office", "text", "markdown"]

_BASE = 54_000_000
_FONTS = 400_000
"""Bytes of the fonts in a PDF that LibreOffice makes."""


_MEMORY_A_PAGE, _OUTPUT_A_PAGE = 1_500, 200
"""Bytes for each page that is taken, besides those of what is on it: a small file may have very many."""


class _Needs(NamedTuple):
    """What a document needs: at least, and for each of its bytes."""

    memory: int
    memory_a_byte: int
    temp: int
    output_a_byte: int
    seconds: float
    seconds_a_byte: float


_MEMORY, _TEMP, _SECONDS = 250_000_000, 7_000_000, 3.0
"""What LibreOffice needs for any document: bytes of memory and of its own files, and seconds."""
_NEEDS: dict[Family, _Needs] = {
    "pdf": _Needs(0, 3, 2_000, 2, 0.2, 1e-8),
    "office": _Needs(_MEMORY, 8, _TEMP, 2, _SECONDS, 1e-6),
    "text": _Needs(_MEMORY, 60, _TEMP, 4, _SECONDS, 6e-6),
    "markdown": _Needs(_MEMORY, 600, _TEMP, 8, _SECONDS, 1e-4),
}


def estimate(job: Job[DocumentConvertOptions]) -> Estimate:
    """Guess from the name and the size."""
    suffix = job.input_file.suffix.lower()
    if suffix == PDF:
        return estimate_for("pdf", job.input_size)
    if office_suffix(job.input_file):
        return estimate_for("office", job.input_size)
    return estimate_for("markdown" if suffix in MARKDOWN_SUFFIXES else "text", job.input_size)


def estimate_for(family: Family, size: int, *, pages: int = 0) -> Estimate:
    """Estimate from the family of the document, its bytes, and the number of pages that are taken from a PDF."""
    needs = _NEEDS[family]
    output = _FONTS + needs.output_a_byte * size + _OUTPUT_A_PAGE * pages
    return Estimate(
        memory=_BASE + needs.memory + needs.memory_a_byte * size + _MEMORY_A_PAGE * pages,
        temp=needs.temp + 2 * size + 2 * output,
        seconds=needs.seconds + needs.seconds_a_byte * size + pages / 10_000,
        basis={"kind": family, "size": size},
    )
