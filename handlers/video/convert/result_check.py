"""Decides whether a converted film may take the place of its original."""

from collections.abc import Mapping
from typing import Any, Literal

from ...contract import TaskContext
from ..content_check import RequiredContent, compare_contents
from ..light import HDR
from ..opening import open_input
from ..source import damage_notes, read_source
from .making import Throttle
from .options import VideoConvertOptions


def check_result(context: TaskContext[VideoConvertOptions], _result: Mapping[str, Any]) -> str:
    """Say why not; empty if it may. Raises Unusable if the result cannot be decoded."""
    options = context.options
    source = read_source(context.input_file)
    if notes := damage_notes(source):
        return notes[0]
    made = read_source(context.output_part)
    if source.colour[1] in HDR and made.colour[1] not in HDR and options.hdr != "sdr":
        return "the result has lost the high dynamic range; hdr=sdr says that this is meant"
    if made.depth < source.depth and options.hdr != "sdr":
        return f"{source.depth} bits a channel became {made.depth}: a codec or profile of more keeps them"
    whole = options.start is None and options.end is None
    steady = options.frame_rate is None and options.deinterlace != "always" and not source.interlaced
    until = source.seconds if options.end is None else min(options.end, source.seconds)
    throttle = Throttle()

    def tick(which: str, seconds: float) -> None:
        context.check_stop()
        if throttle.due():
            context.progress(100, f"decoding the {which} to compare, {seconds:.0f} s")

    wanted = RequiredContent(
        seconds=max(0.0, until - (options.start or 0.0)),
        pictures=whole and steady,
        sounds=options.audio_track is None,
        silent=options.audio_codec == "none",
        beside=_other_content(options) if whole else (),
    )
    return compare_contents(context.input_file, context.output_part, open_input, wanted, tick)


def _other_content(options: VideoConvertOptions) -> tuple[Literal["subtitles", "attachments"], ...]:
    """The parts that must be kept besides picture and sound; a track drawn into the picture need not be."""
    if options.subtitles == "none":
        return ()
    return ("attachments",) if options.burn_subtitles else ("subtitles", "attachments")
