"""Converts the sound of any file to one of the usual formats, or to a picture of it."""

from ...contract import TaskType, media
from ...video.estimate import VIDEO_BOUNDS
from .estimate import estimate
from .options import AudioConvertOptions, check

audio_convert = TaskType(
    name="audio_convert",
    summary="Convert sound, also a film's, to mp3, m4a, opus, ogg, flac or wav, loud as asked; or draw it as png.",
    run="tasktrail.handlers.audio.convert.run:run",
    probe="tasktrail.handlers.audio.convert.probe:probe",
    checkup="tasktrail.handlers.audio.checkup:checkup",
    check_result="tasktrail.handlers.audio.convert.result_check:check_result",
    options=AudioConvertOptions,
    estimate=estimate,
    check=check,
    resumable=True,
    needs_input=True,
    accepts=("audio", "video"),
    needs_output=True,
    bounds=VIDEO_BOUNDS,
    output_suffix=".mp3",
    packages=media("av", "PIL"),
)
