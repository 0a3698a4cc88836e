"""Helpers to run `audio_convert`."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeAlias

import msgspec
import pytest

from tasktrail.handlers import Outcome
from tasktrail.handlers.audio.convert import audio_convert
from tasktrail.handlers.audio.convert.options import AudioConvertOptions, check
from tasktrail.testing import RecordingContext, run_handler

Context: TypeAlias = RecordingContext[AudioConvertOptions]


@pytest.fixture
def prepare(tmp_path: Path) -> Callable[..., Context]:
    """Make a context for a conversion, with the options given by name; they are checked as for a command."""

    def context(source: Path, output: str, **options: Any) -> Context:
        how = {name: options.pop(name) for name in ("stop_after", "crash_after") if name in options}
        context = RecordingContext(
            msgspec.convert(options, AudioConvertOptions),
            work_dir=tmp_path / "work",
            input_file=source,
            output_file=tmp_path / output,
            **how,
        )
        check(context.job)
        return context

    return context


@pytest.fixture
def convert(prepare: Callable[..., Context]) -> Callable[..., tuple[Path, Outcome]]:
    """Convert a file, and return the place of the result."""

    def run(source: Path, output: str, **options: Any) -> tuple[Path, Outcome]:
        context = prepare(source, output, **options)
        return context.output_file, run_handler(audio_convert, context)

    return run
