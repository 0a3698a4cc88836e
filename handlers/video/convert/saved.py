"""What an attempt leaves to the next one, as the checkpoint keeps it."""

from fractions import Fraction
from pathlib import Path

import msgspec

from ....events import Checkpoint
from ...pieces import intact
from .plan import Plan


class Segment(msgspec.Struct, frozen=True, array_like=True):
    """A finished segment; an array in the checkpoint, because there are many."""

    number: int
    first: int
    last: int
    frames: int
    size: int
    sha256: str

    @property
    def name(self) -> str:
        """File name in the work folder."""
        return segment_name(self.number)

    def intact(self, folder: Path) -> bool:
        """Whether the file still is what was finished."""
        return intact(folder / self.name, self.size, self.sha256)


class AudioTrack(msgspec.Struct, frozen=True, kw_only=True):
    """The finished sound."""

    name: str
    start: float
    """Seconds on the source's clock."""
    samples: int
    size: int
    sha256: str

    def intact(self, folder: Path) -> bool:
        """Whether the file still is what was finished."""
        return intact(folder / self.name, self.size, self.sha256)


class Saved(msgspec.Struct, frozen=True, kw_only=True):
    """The `data` of the checkpoint."""

    fingerprint: str
    plan: Plan
    audio: AudioTrack | None = None
    audio_done: bool = False
    """Also true where there is no sound to keep."""
    segments: tuple[Segment, ...] = ()

    @property
    def frames(self) -> int:
        """Frames in the finished segments."""
        return sum(segment.frames for segment in self.segments)

    @property
    def last_moment(self) -> int | None:
        """The last frame that is safe; none before the first segment."""
        return self.segments[-1].last if self.segments else None

    @property
    def files(self) -> list[str]:
        """Names of all finished files."""
        return [part.name for part in (self.audio, *self.segments) if part is not None]

    def as_checkpoint(self, time_base: Fraction) -> Checkpoint:
        """The checkpoint that says all this."""
        return Checkpoint(
            processed_frames=self.frames,
            processed_bytes=sum(segment.size for segment in self.segments),
            last_position=float((self.last_moment or 0) * time_base),
            temp_files=tuple(self.files),
            data=msgspec.to_builtins(self),
        )

    def with_segment(self, segment: Segment) -> "Saved":
        """The same with one more segment, or with another one in its place."""
        others = [other for other in self.segments if other.number != segment.number]
        segments = tuple(sorted([*others, segment], key=lambda each: each.number))
        return msgspec.structs.replace(self, segments=segments)


def remove_leftovers(folder: Path, saved: Saved) -> None:
    """Delete what a crash, or an earlier plan, left unfinished."""
    for pattern in ("segment-*", "sound.*"):
        for path in folder.glob(pattern):
            if path.name not in saved.files:
                path.unlink()


def segment_name(number: int) -> str:
    """The file of a segment."""
    return f"segment-{number:05}.mp4"


def recall(checkpoint: Checkpoint | None, fingerprint: str) -> Saved | None:
    """What was saved, if it belongs to the same input, options and library."""
    if checkpoint is None:
        return None
    try:
        saved = msgspec.convert(checkpoint.data, Saved)
    except msgspec.ValidationError:  # written by another version of this handler
        return None
    return saved if saved.fingerprint == fingerprint else None
