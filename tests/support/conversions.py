"""Videos for every way of reading, and conversions that are killed."""

import hashlib
import shutil
from fractions import Fraction
from pathlib import Path
from typing import Any

from tasktrail.handlers.video.convert.checkpoint import SavedConversion
from tasktrail.handlers.video.convert.journal import Journal
from tasktrail.testing import RecordingContext

BFRAMES = {"bf": "3", "g": "30"}

SOURCES: dict[str, dict[str, Any]] = {
    "b-frames": {"options": BFRAMES},
    "no index": {"suffix": ".ts", "options": {"g": "40"}},
    "open groups": {"suffix": ".mkv", "options": {"g": "20", "x264-params": "open-gop=1:bframes=3:scenecut=0"}},
    "open groups in hevc": {
        "suffix": ".mkv",
        "codec": "libx265",
        "options": {"x265-params": "open-gop=1:keyint=20:bframes=4:log-level=none"},
        "audio": "",
    },
    "uneven": {"suffix": ".mkv", "options": BFRAMES, "uneven": True},
    "one keyframe": {"options": {"g": "1000", "bf": "2"}, "audio": ""},
    "times that jump back": {"suffix": ".avi", "options": {"bf": "2", "g": "15"}, "audio": "mp3"},
    "mpeg-4 without index": {"suffix": ".ts", "codec": "mpeg4", "options": {"g": "60"}, "audio": "aac"},
    "mpeg-2": {"suffix": ".mpg", "codec": "mpeg2video", "options": {"bf": "2", "g": "40"}, "audio": "mp2"},
    "neither index nor length": {"suffix": ".mkv", "options": BFRAMES, "container": {"live": "1"}},
    "flash": {"suffix": ".flv", "options": BFRAMES},
    "windows media": {"suffix": ".wmv", "codec": "wmv2", "options": {"g": "40"}, "audio": "libmp3lame"},
    "webm": {"suffix": ".webm", "codec": "libvpx-vp9", "options": {"cpu-used": "8", "g": "30"}, "audio": "libopus"},
    "animation": {"suffix": ".gif", "codec": "gif", "audio": "", "pixel_format": "rgb8"},
}


def digest(path: Path) -> str:
    return hashlib.sha256(path.read_bytes()).hexdigest()


def saved_by(context: RecordingContext[Any]) -> SavedConversion:
    """Return what the next attempt would find finished."""
    assert context.checkpoint is not None
    saved = Journal(context, Fraction(1)).recall(context.checkpoint.data["fingerprint"])
    assert saved is not None
    return saved


def at_checkpoint(done: RecordingContext[Any], number: int, folder: Path) -> RecordingContext[Any]:
    """Return the task as a kill right after checkpoint `number` (from 0) would have left it."""
    checkpoint = done.checkpoints[number]
    folder.mkdir()
    for name in checkpoint.temp_files:
        shutil.copy(done.work_dir / name, folder / name)
    resumed = RecordingContext(
        done.options,
        work_dir=folder,
        input_file=done.input_file,
        output_file=folder / done.output_file.name,
        checkpoint=checkpoint,
        attempt=2,
    )
    for name in saved_by(resumed).files:
        shutil.copy(done.work_dir / name, folder / name)
    (folder / f"segment-{number + 90:05}.part").write_bytes(b"cut off")
    return resumed
