"""A killed conversion continues, and the result shows no trace of the kill."""

import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import av
import msgspec
import pytest
from conversions import SOURCES, at_checkpoint, digest, saved_by

from tasktrail.events import Checkpoint
from tasktrail.handlers import Finished, Stopped
from tasktrail.handlers.video.convert.journal import INDEX
from tasktrail.handlers.video.convert.options import Target, VideoConvertOptions, require_program
from tasktrail.handlers.video.program import Program
from tasktrail.testing import SimulatedCrash


@pytest.mark.parametrize("name", SOURCES)
def test_resuming_from_any_checkpoint_gives_the_same_file(
    *,
    name: str,
    clips: Callable[..., Path],
    prepare: Callable[..., Any],
    convert: Callable[..., Any],
    look: Callable[..., Any],
    tmp_path: Path,
) -> None:
    source = clips(**SOURCES[name])
    whole = prepare(source, segment_seconds=0.8)
    assert isinstance(convert(whole), Finished)
    original, result = look(source), look(whole.output_file)
    assert len(whole.checkpoints) >= 4
    assert max(len(msgspec.json.encode(checkpoint)) for checkpoint in whole.checkpoints) < 600
    assert len(result.times) == len(original.times) == whole.checkpoints[-1].processed_frames
    assert result.corrupt == 0
    assert result.times == sorted(set(result.times))
    for number in range(len(whole.checkpoints)):
        resumed = at_checkpoint(whole, number, tmp_path / f"from{number}")
        assert isinstance(convert(resumed), Finished)
        assert digest(resumed.output_file) == digest(whole.output_file), f"from checkpoint {number}"
        assert resumed.checkpoints == whole.checkpoints[number + 1 :]
        assert not list(resumed.work_dir.glob("*.part"))


@pytest.mark.parametrize("name", ["b-frames", "no index", "uneven", "times that jump back"])
def test_resuming_from_any_checkpoint_with_the_ffmpeg_program_gives_the_same_frames_and_times(
    *,
    name: str,
    clips: Callable[..., Path],
    install: Callable[..., Path],
    prepare: Callable[..., Any],
    convert: Callable[..., Any],
    look: Callable[..., Any],
    tmp_path: Path,
) -> None:
    install()
    source = clips(**SOURCES[name])
    builtin = prepare(source, "builtin.mp4", segment_seconds=1.5)
    convert(builtin)
    shutil.rmtree(builtin.work_dir)
    whole = prepare(source, segment_seconds=1.5, backend="ffmpeg")
    assert isinstance(convert(whole), Finished)
    result = look(whole.output_file)
    assert len(whole.checkpoints) >= 3
    assert (len(result.times), result.corrupt) == (len(look(source).times), 0)
    assert result.times == look(builtin.output_file).times
    for number in range(len(whole.checkpoints)):
        resumed = at_checkpoint(whole, number, tmp_path / f"from{number}")
        before = saved_by(resumed)
        assert isinstance(convert(resumed), Finished)
        assert look(resumed.output_file).times == result.times, f"from checkpoint {number}"
        kept = before.files
        assert all((resumed.work_dir / n).read_bytes() == (whole.work_dir / n).read_bytes() for n in kept)
        assert len(resumed.checkpoints) == len(whole.checkpoints) - number - 1


def test_another_build_of_the_ffmpeg_program_starts_anew(
    *,
    clips: Callable[..., Path],
    install: Callable[..., Path],
    prepare: Callable[..., Any],
    convert: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    install()
    first = prepare(clips(seconds=2), backend="ffmpeg")
    convert(first)
    same = first.resumed()
    convert(same)
    assert same.checkpoints == []

    def rebuilt(options: VideoConvertOptions, target: Target) -> Program:
        return msgspec.structs.replace(require_program(options, target), built="another")

    monkeypatch.setattr("tasktrail.handlers.video.convert.run.require_program", rebuilt)
    again = first.resumed()
    convert(again)
    assert len(again.checkpoints) == len(first.checkpoints)


def test_an_interrupted_run_redoes_at_most_one_segment(
    clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    source = clips()
    whole = prepare(source)
    convert(whole)
    expected = digest(whole.output_file)
    shutil.rmtree(whole.work_dir)
    context, attempts = prepare(source, crash_after=1), 0
    while True:
        attempts += 1
        try:
            assert isinstance(convert(context), Finished)
            break
        except SimulatedCrash:
            context = context.resumed(crash_after=1)
    assert attempts == len(whole.checkpoints) + 1
    assert context.checkpoint == whole.checkpoints[-1]
    assert digest(context.output_file) == expected


@pytest.mark.parametrize("harm", ["changed", "cut", "gone"])
def test_a_damaged_segment_is_made_again_and_no_other(
    harm: str, clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    first = prepare(clips())
    convert(first)
    expected = digest(first.output_file)
    segments = sorted(first.work_dir.glob("segment-*"))
    before = {path: path.stat().st_mtime_ns for path in segments}
    victim = segments[1]
    content = victim.read_bytes()
    match harm:
        case "changed":
            victim.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        case "cut":
            victim.write_bytes(content[:100])
        case _:
            victim.unlink()
    again = first.resumed()
    assert isinstance(convert(again), Finished)
    assert digest(again.output_file) == expected
    assert [path for path in segments if path.stat().st_mtime_ns != before[path]] == [victim]
    assert len(again.checkpoints) == 1


def test_damaged_sound_is_made_again(
    clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    first = prepare(clips())
    convert(first)
    expected = digest(first.output_file)
    (first.work_dir / "sound-1.mp4").write_bytes(b"")
    again = first.resumed()
    assert isinstance(convert(again), Finished)
    assert digest(again.output_file) == expected


@pytest.mark.parametrize("output", ["out.mp4", "out.mov", "out.mkv", "out.webm"])
def test_once_all_is_encoded_only_the_join_is_done_again(
    output: str, clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    first = prepare(clips(seconds=2), output)
    convert(first)
    expected = digest(first.output_file)
    again = first.resumed()
    assert isinstance(convert(again), Finished)
    assert digest(again.output_file) == expected
    assert again.checkpoints == []
    assert {message for _, message in again.reports} == {"joining"}


def test_other_options_start_anew(
    clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    first = prepare(clips(), crash_after=3)
    with pytest.raises(SimulatedCrash):
        convert(first)
    second = prepare(clips(), crf=40)
    second.checkpoint = first.checkpoint
    assert isinstance(convert(second), Finished)
    fresh = prepare(clips(), "fresh.mp4", crf=40)
    convert(fresh)
    assert second.checkpoints == fresh.checkpoints
    assert digest(second.output_file) == digest(fresh.output_file)


def test_another_input_starts_anew(
    clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any], look: Callable[..., Any]
) -> None:
    first = prepare(clips(), crash_after=3)
    with pytest.raises(SimulatedCrash):
        convert(first)
    other = prepare(clips(seconds=3, audio=""))
    other.checkpoint = first.checkpoint
    outcome = convert(other)
    assert isinstance(outcome, Finished)
    assert outcome.result["frames"] == len(look(other.output_file).times) == 75
    assert not (other.work_dir / "sound-1.mp4").exists()


def test_another_version_of_the_library_starts_anew(
    clips: Callable[..., Path],
    prepare: Callable[..., Any],
    convert: Callable[..., Any],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first = prepare(clips())
    convert(first)
    monkeypatch.setattr(av, "__version__", "0.0")
    again = first.resumed()
    assert isinstance(convert(again), Finished)
    assert len(again.checkpoints) == len(first.checkpoints)


def test_a_checkpoint_of_somebody_else_is_ignored(
    clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    context = prepare(clips())
    context.checkpoint = Checkpoint(processed_frames=5, data={"version": 0, "chunks": [1, 2]})
    assert isinstance(convert(context), Finished)


def test_a_checkpoint_that_holds_all_as_earlier_versions_wrote_it_is_resumed(
    clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any], tmp_path: Path
) -> None:
    whole = prepare(clips())
    convert(whole)
    for number in range(len(whole.checkpoints)):
        resumed = at_checkpoint(whole, number, tmp_path / f"from{number}")
        everything = msgspec.to_builtins(saved_by(resumed))
        resumed.checkpoint = msgspec.structs.replace(whole.checkpoints[number], data=everything)
        (resumed.work_dir / INDEX).unlink()
        assert isinstance(convert(resumed), Finished)
        assert digest(resumed.output_file) == digest(whole.output_file)
        assert len(resumed.checkpoints) == len(whole.checkpoints) - number - 1
        assert saved_by(resumed) == saved_by(whole)


@pytest.mark.parametrize("harm", ["changed", "cut", "gone"])
def test_a_damaged_index_starts_anew(
    harm: str, clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    first = prepare(clips())
    convert(first)
    index, expected = first.work_dir / INDEX, digest(first.output_file)
    content = index.read_bytes()
    match harm:
        case "changed":
            index.write_bytes(content.replace(b'"start":0', b'"start":1', 1))
            assert index.read_bytes() != content
        case "cut":
            index.write_bytes(content[:-1])
        case _:
            index.unlink()
    again = first.resumed()
    assert isinstance(convert(again), Finished)
    assert again.checkpoints == first.checkpoints
    assert digest(again.output_file) == expected


def test_what_no_checkpoint_names_is_cut_off_the_index(
    clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    """A kill between the line and its checkpoint leaves a line, or half of one."""
    whole = prepare(clips(), "whole.mp4")
    convert(whole)
    expected = (whole.work_dir / INDEX).read_bytes()
    shutil.rmtree(whole.work_dir)
    killed = prepare(clips(), crash_after=2)
    with pytest.raises(SimulatedCrash):
        convert(killed)
    index = killed.work_dir / INDEX
    index.write_bytes(index.read_bytes() + b'{"segment":[7,0,0,1,1,""]}\n{"segm')
    resumed = killed.resumed()
    assert isinstance(convert(resumed), Finished)
    assert index.read_bytes() == expected
    assert digest(resumed.output_file) == digest(whole.output_file)


@pytest.mark.parametrize("stop_after", [0, 20, 230, 290])
def test_it_goes_home_when_asked_and_leaves_nothing_unfinished(
    stop_after: int, clips: Callable[..., Path], prepare: Callable[..., Any], convert: Callable[..., Any]
) -> None:
    whole = prepare(clips())
    convert(whole)
    expected = digest(whole.output_file)
    whole.output_file.unlink()
    shutil.rmtree(whole.work_dir)
    context = prepare(clips(), stop_after=stop_after)
    assert isinstance(convert(context), Stopped)
    assert not context.output_part.exists()
    left = {path.name for path in context.work_dir.iterdir()}
    assert left == ({INDEX, *saved_by(context).files} if context.checkpoint else set())
    again = context.resumed()
    assert isinstance(convert(again), Finished)
    assert digest(again.output_file) == expected
