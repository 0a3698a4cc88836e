"""What can be wrong with an input, as seen by `video_convert`."""


class UnusableInputError(ValueError):
    """The request can never work, whatever is tried: not a video, or a target that does not exist."""


class DamagedInputError(ValueError):
    """Too much of the video cannot be decoded for the rest to be of use."""


class StopAskedError(Exception):
    """Somebody wants the attempt to end. Does not leave the handler: it becomes `Stopped`."""
