"""One film on many nodes: the names and places of its parts.

Each part is made by a task `video_part`; then one `video_convert` joins them. No media library here: the service
imports this.
"""

import re
from pathlib import Path
from typing import Annotated

import msgspec

from .options import VideoConvertOptions

_NAME = re.compile(r"(.+)\.part-([1-9]\d*)-of-([1-9]\d*)\.tasktrail", re.DOTALL)


class VideoPartOptions(VideoConvertOptions, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The options of the film, and which part of it this is. All parts and the film have the same."""

    part: Annotated[int, msgspec.Meta(ge=1, description="Which part this is; the output is called after it.")] = 1

    def __post_init__(self) -> None:
        """Refuse a part number out of range, and all that the film's options refuse. Raises ValueError."""
        super().__post_init__()
        if self.parts is None:
            raise ValueError("parts has to say how many parts the film has")
        if not 1 <= self.part <= self.parts:
            raise ValueError(f"part goes from 1 to {self.parts}, not {self.part}")


def part_file(film: Path, part: int, parts: int) -> Path:
    """The path of a part of the film: beside it, under a name of our own."""
    return film.with_name(f"{film.name}.part-{part}-of-{parts}.tasktrail")


def part_files(film: Path, options: VideoConvertOptions) -> tuple[Path, ...]:
    """The parts that the film is joined from; none if it is converted in one task."""
    parts = options.parts or 0
    return tuple(part_file(film, part, parts) for part in range(1, parts + 1))


def film_of(path: Path) -> Path:
    """The film that a part belongs to, by the part's name; any other path unchanged."""
    found = _NAME.fullmatch(path.name)
    return path.with_name(found[1]) if found else path


def film_options(options: VideoConvertOptions) -> VideoConvertOptions:
    """The options of the film that a part belongs to."""
    return VideoConvertOptions(**{name: getattr(options, name) for name in VideoConvertOptions.__struct_fields__})


def bytes_depend_on(options: VideoConvertOptions) -> dict[str, object]:
    """The options that affect the bytes of a film: not how it is spread, nor how much is made at once."""
    plain: dict[str, object] = msgspec.to_builtins(
        msgspec.structs.replace(film_options(options), segments_at_once=None)
    )
    del plain["parts"]  # keeps the fingerprint of work begun before parts existed
    return plain
