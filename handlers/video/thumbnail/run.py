"""The work of `video_thumbnail`: choose a frame (0-90 %), write it as a picture (90-100 %)."""

from collections.abc import Callable

from av.video.frame import VideoFrame

from ...contract import Finished, Outcome, TaskContext, Unusable
from ...media.formats import format_of
from ...media.pictures import write_picture
from ...media.result import output_fields
from ..frames import pick_frames, spread
from ..source import VideoSource, read_source, source_fields, still_notes
from ..stills import StillRenderer
from .options import VideoThumbnailOptions


def run(context: TaskContext[VideoThumbnailOptions]) -> Outcome:
    """Write the picture to `context.output_part`.

    Raises:
        Unusable: there is no frame, or the file is not a video.
        OSError: a file cannot be read or written.
    """
    options = context.options
    kind = format_of(context.output_file)
    context.progress(0, f"reading {context.input_file.name}")
    source = read_source(context.input_file)
    context.check_stop()
    moment, frame = _choose(context, source)
    context.check_stop()
    renderer = StillRenderer(source, (options.width, options.height), options.fit, context.work_dir)
    context.progress(90, f"writing {kind.lower()}")
    write_picture(renderer.render(frame), context.output_part, kind, quality=options.quality)
    width, height = renderer.size
    result = output_fields(context.output_part, kind.lower(), width=width, height=height) | source_fields(source)
    result["source_position"] = round(source.seconds_at(moment), 3)
    if notes := still_notes(source):
        result["notes"] = notes
    return Finished(result=result, message=f"{width}x{height} pixels")


def _choose(context: TaskContext[VideoThumbnailOptions], source: VideoSource) -> tuple[int, VideoFrame]:
    """The wanted frame, or the best of the candidates, and its moment."""
    where = context.options.where
    if where is not None:
        moments = [min(source.moment_at(where.seconds(source.seconds)), source.end)]
    else:
        moments = spread(source, context.options.candidates)
    score_of, best_score = _scorer() if len(moments) > 1 else _no_score, -1.0
    best: tuple[int, VideoFrame] | None = None
    for number, (moment, frame) in enumerate(pick_frames(source, moments, context.check_stop), 1):
        score = score_of(frame)
        if score > best_score:
            best_score, best = score, (moment, frame)
        context.progress(90 * number / len(moments), f"frame {number} of {len(moments)}")
    if best is None:
        raise Unusable(f"not one picture of {source.path.name} can be decoded")
    return best


def _scorer() -> Callable[[VideoFrame], float]:
    from ..scoring import FrameScorer  # noqa: PLC0415 - loading numpy takes longer than reading one frame

    return FrameScorer().score


def _no_score(_frame: VideoFrame) -> float:
    return 0.0
