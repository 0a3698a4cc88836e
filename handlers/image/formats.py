"""Which picture formats are written, by the output's suffix. No Pillow here: the service imports this."""

from pathlib import PurePath

from ...events.errors import InvalidPath

WRITE_FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP", ".avif": "AVIF", ".gif": "GIF"}
"""Suffix → Pillow's name of the format."""


def format_of(output_file: PurePath) -> str:
    """Pillow's name of the format that the suffix asks for. Raises InvalidPath when it is none of `WRITE_FORMATS`."""
    kind = WRITE_FORMATS.get(output_file.suffix.lower())
    if kind is None:
        raise InvalidPath(
            f"A picture cannot be written to {output_file.name!r}",
            field="output_file",
            remedy=f"Give it one of the suffixes {', '.join(WRITE_FORMATS)}.",
        )
    return kind
