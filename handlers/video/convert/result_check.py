"""Whether a converted film may take the place of its original."""

from collections.abc import Mapping
from typing import Any

from ...contract import TaskContext
from ..content_check import Wanted, compare_contents
from ..opening import open_input
from ..source import cut_notes, read_source
from .making import Pace
from .options import VideoConvertOptions


def check_result(context: TaskContext[VideoConvertOptions], _result: Mapping[str, Any]) -> str:
    """Why not, in words; empty where it may. Raises Unusable where the result cannot be decoded."""
    options = context.options
    source = read_source(context.input_file)
    if notes := cut_notes(source):
        return notes[0]
    whole = options.start is None and options.end is None
    steady = options.frame_rate is None and options.deinterlace != "always" and not source.interlaced
    until = source.seconds if options.end is None else min(options.end, source.seconds)
    pace = Pace()

    def tick(which: str, seconds: float) -> None:
        context.check_stop()
        if pace.due():
            context.progress(100, f"decoding the {which} to compare, {seconds:.0f} s")

    wanted = Wanted(
        seconds=max(0.0, until - (options.start or 0.0)),
        pictures=whole and steady,
        sounds=options.audio_track is None,
        silent=options.audio_codec == "none",
        beside=("subtitles", "attachments") if whole and options.subtitles == "keep" else (),
    )
    return compare_contents(context.input_file, context.output_part, open_input, wanted, tick)
