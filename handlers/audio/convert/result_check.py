"""Decides whether a converted sound file may take the place of its original."""

from collections.abc import Mapping
from typing import Any

from ...contract import TaskContext
from ...video.content_check import RequiredContent, compare_contents
from .options import AudioConvertOptions
from .source import open_sound, read_sound


def check_result(context: TaskContext[AudioConvertOptions], _result: Mapping[str, Any]) -> str:
    """Say why not; empty if it may. Raises Unusable if the result cannot be decoded."""
    options = context.options
    source = read_sound(context.input_file, options.track)
    until = source.seconds if options.end is None else min(options.end, source.seconds)

    def tick(which: str, seconds: float) -> None:
        context.check_stop()
        context.progress(100, f"decoding the {which} to compare, {seconds:.0f} s")

    wanted = RequiredContent(
        seconds=max(0.0, until - (options.start or 0.0)),
        sounds=options.track is None,
        beside=("covers",) if options.cover == "keep" else (),
    )
    return compare_contents(context.input_file, context.output_part, open_sound, wanted, tick)
