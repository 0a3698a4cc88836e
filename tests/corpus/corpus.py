"""Convert a corpus with ten presets, and check every property that ffprobe reports against the request and the notes.

PYTHONPATH=tests/support python tests/corpus/corpus.py --films 100 --sounds 24 --seed 1

Each film is made by the ffmpeg program, converted with each preset, and compared (see kept.py). A difference that was
not requested, and that no note of the result mentions, is a fault; so is a refusal that is not listed below. Prints how
many values were compared and why which differ; the seed repeats the corpus.
"""

import argparse
import re
import shutil
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import msgspec
from kept import Case, compared, differences, probe, reason
from recipes import Recipe, make, recipes

from tasktrail.handlers import Finished, Rejected
from tasktrail.handlers.audio.convert import audio_convert
from tasktrail.handlers.presets import BUILT_IN, Preset
from tasktrail.handlers.video.convert import video_convert
from tasktrail.testing import RecordingContext, run_handler

TYPES: dict[str, Any] = {"video_convert": video_convert, "audio_convert": audio_convert}
OWN = (
    Preset(name="copy-mkv", type="video_convert", options={"video_codec": "copy"}, output_suffix=".mkv"),
    Preset(name="copy-mp4", type="video_convert", options={"video_codec": "copy"}, output_suffix=".mp4"),
    Preset(name="copy-mov", type="video_convert", options={"video_codec": "copy"}, output_suffix=".mov"),
    Preset(name="webm", type="video_convert", options={"preset": "ultrafast"}, output_suffix=".webm"),
    Preset(name="sound-m4a", type="audio_convert", output_suffix=".m4a"),
    Preset(name="sound-flac", type="audio_convert", options={"codec": "flac"}, output_suffix=".flac"),
)
PRESETS = (*(preset for preset in BUILT_IN if preset.type in TYPES), *OWN)
QUICK = ("copy-mkv", "copy-mp4", "sound-m4a")
"""The presets of the short form."""
RIGHTLY = (
    (r"has no sound$", "there is no sound"),
    (r"a picture of \w+ cannot be copied into \w+:", "copying: the container cannot hold it"),
    (r"does not say when its pictures are shown.*so they cannot be copied", "copying: without times"),
)
"""Words of a justified refusal, and its subject."""


class Result(msgspec.Struct, kw_only=True):
    """One conversion."""

    name: str
    preset: str
    refused: str = ""
    compared: int = 0
    reasons: dict[str, int] = {}
    """Why values differ → how many."""
    faults: list[str] = []


def converted(path: Path, preset: Preset, folder: Path) -> Result:
    """Convert and compare."""
    result = Result(name=path.name, preset=preset.name)
    task_type = TYPES[preset.type]
    context: RecordingContext[Any] = RecordingContext(
        msgspec.convert(preset.options, task_type.options),
        work_dir=folder / "work",
        input_file=path,
        output_file=folder / f"out{preset.output_suffix}",
    )
    try:
        outcome = run_handler(task_type, context)
    except Exception as error:  # noqa: BLE001 - it is what is looked for
        result.faults.append(f"failed: {error!r}")
        return result
    if isinstance(outcome, Finished):
        case = Case(
            type=preset.type,
            options=preset.options,
            suffix=preset.output_suffix,
            before=probe(path),
            after=probe(context.output_file),
            notes=outcome.result["notes"],
        )
        _judge(case, result)
    else:
        said = outcome.reason if isinstance(outcome, Rejected) else repr(outcome)
        result.refused = next((what for words, what in RIGHTLY if re.search(words, said)), "")
        result.faults += [] if result.refused else [f"refused: {said}"]
    shutil.rmtree(folder)
    return result


def _judge(case: Case, result: Result) -> None:
    result.compared = compared(case)
    for each in differences(case):
        if why := reason(each):
            result.reasons[why] = result.reasons.get(why, 0) + 1
        else:
            result.faults.append(f"{each.track}, {each.key}: {each.before!r} became {each.after!r}; {case.notes}")


class Work(msgspec.Struct, frozen=True):
    """One file, and everything made from it."""

    recipe: Recipe
    presets: tuple[Preset, ...]
    folder: Path


def work_on(work: Work) -> list[Result]:
    """Make the file, convert it with each preset, and delete it."""
    folder = work.folder / f"{work.recipe.number:03}"
    folder.mkdir(parents=True)
    path = make(work.recipe, folder)
    fitting = [each for each in work.presets if each.type == "audio_convert" or work.recipe.kind.picture]
    found = [converted(path, preset, folder / preset.name) for preset in fitting]
    if not any(result.faults for result in found):
        shutil.rmtree(folder)
    return found


def run(works: list[Work], jobs: int) -> Iterator[Result]:
    """Run everything, with that many files at once."""
    if jobs == 1:
        for work in works:
            yield from work_on(work)
        return
    with ProcessPoolExecutor(jobs, mp_context=get_context("spawn")) as pool:  # raises when a process has died
        for results in pool.map(work_on, works):
            yield from results


def main(arguments: list[str] | None = None) -> int:
    """Return 1 when a difference is not explained."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--films", type=int, default=100)
    parser.add_argument("--sounds", type=int, default=24)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--jobs", type=int, default=2)
    parser.add_argument("--presets", default="", help="only these, with commas between them")
    parser.add_argument("--number", type=int, help="only the file with this number")
    parser.add_argument("--short", action="store_true", help=f"with {', '.join(QUICK)} alone")
    given = parser.parse_args(arguments)
    wanted = given.presets.split(",") if given.presets else QUICK if given.short else None
    presets = tuple(preset for preset in PRESETS if wanted is None or preset.name in wanted)
    folder = Path(tempfile.mkdtemp(prefix="corpus-"))
    print(f"seed {given.seed}, {len(presets)} presets: {', '.join(preset.name for preset in presets)}", flush=True)
    every = recipes(given.films, given.sounds, given.seed)
    works = [Work(each, presets, folder) for each in every if given.number in (None, each.number)]
    found = list(run(works, given.jobs))
    code = tell(found, len(works))
    if code:
        print(f"files with faults are in {folder}")
    else:
        shutil.rmtree(folder, ignore_errors=True)
    return code


def tell(found: list[Result], files: int) -> int:
    """Print the result; return the exit code."""
    for result in found:
        for fault in result.faults:
            print(f"FAULT {result.name}, {result.preset}: {fault}")
    refused = Counter(result.refused for result in found if result.refused)
    reasons: Counter[str] = Counter()
    for result in found:
        reasons.update(result.reasons)
    faults = sum(len(result.faults) for result in found)
    print(f"\n{files} files, {len(found)} conversions, {sum(result.compared for result in found):,} values compared")
    print(f"{sum(refused.values())} refused, as it should be: {dict(refused)}")
    print(f"{sum(reasons.values()):,} values differ for these reasons, {faults} for none:")
    for why, count in sorted(reasons.items(), key=lambda pair: -pair[1]):
        print(f"  {count:>6,}  {why}")
    return min(1, faults)


if __name__ == "__main__":
    sys.exit(main())
