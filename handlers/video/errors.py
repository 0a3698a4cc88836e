"""What can be wrong with a video."""

from ..contract import Unusable


class UnusableInputError(Unusable):
    """The request can never work, whatever is tried: not a video, or nothing in it that can be shown."""


class UndecodableError(ValueError):
    """Too much of the video cannot be decoded, or is missing, for the rest to be of use; why, the text says."""


class StopAskedError(Exception):
    """Somebody wants the attempt to end. Does not leave the handler: it becomes `Stopped`."""


class ProgramFailedError(RuntimeError):
    """The ffmpeg program ended badly, or wrote something else than the frames it was given."""


class EncoderFailedError(RuntimeError):
    """The encoder gave back something else than the frames it was given."""
