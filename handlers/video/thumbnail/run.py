"""The work of `video_thumbnail`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from av.video.frame import VideoFrame

from ...contract import Estimate, Finished, Job, Outcome, Stopped, TaskContext, Unusable
from ...media.formats import format_of
from ...media.pictures import write_picture
from ...media.result import describe
from ..frames import pick, spread
from ..opening import StopAskedError
from ..probe import Source, cut_notes, picture_in, probe, told_of
from ..stills import Camera
from .estimate import estimate_for
from .options import VideoThumbnailOptions


def look(job: Job[VideoThumbnailOptions]) -> Estimate:
    """A better estimate. Raises UnusableInputError."""
    return estimate_for(job, picture_in(job.input_file))


def make_thumbnail(context: TaskContext[VideoThumbnailOptions]) -> Outcome:
    """Write the picture to `context.output_part`.

    Raises:
        Unusable: there is no frame, or the file is no video.
        OSError: a file cannot be read or written.
    """
    kind = format_of(context.output_file)
    context.progress(0, f"reading {context.input_file.name}")
    source = probe(context.input_file)

    def tick() -> None:
        if context.should_stop():
            raise StopAskedError

    try:
        tick()
        moment, frame = _choose(context, source, tick)
        tick()
    except StopAskedError:
        return Stopped()
    options = context.options
    camera = Camera(source, (options.width, options.height), options.fit)
    context.progress(90, f"writing {kind.lower()}")
    write_picture(camera.shoot(frame), context.output_part, kind, quality=options.quality)
    return Finished(result=_describe(context.output_part, kind, camera, source, moment))


def _choose(context: TaskContext[VideoThumbnailOptions], source: Source, tick: Any) -> tuple[int, VideoFrame]:
    """The wanted frame, or the best of the candidates."""
    where = context.options.where
    if where is not None:
        moments = [min(source.moment_at(where.seconds(source.seconds)), source.end)]
    else:
        moments = spread(source, context.options.candidates)
    score_of, best_score = _scorer() if len(moments) > 1 else _any_will_do, -1.0
    best: tuple[int, VideoFrame] | None = None
    for number, (moment, frame) in enumerate(pick(source, moments, tick), 1):
        score = score_of(frame)
        if score > best_score:
            best_score, best = score, (moment, frame)
        context.progress(90 * number / len(moments), f"frame {number} of {len(moments)}")
    if best is None:
        raise Unusable(f"not one picture of {source.path.name} can be decoded")
    return best


def _scorer() -> Callable[[VideoFrame], float]:
    from ..scoring import Judge  # noqa: PLC0415 - to load numpy takes longer than to read one frame

    return Judge().score


def _any_will_do(_frame: VideoFrame) -> float:
    return 0.0


def _describe(path: Path, kind: str, camera: Camera, source: Source, moment: int) -> dict[str, Any]:
    result = describe(path, kind.lower(), width=camera.size[0], height=camera.size[1]) | told_of(source)
    notes = cut_notes(source)
    return result | {"source_position": round(source.seconds_at(moment), 3)} | ({"notes": notes} if notes else {})
