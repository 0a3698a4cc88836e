"""What is recorded and cannot be followed here: by this version, or with the time zones that this machine knows."""

from ...events.errors import LogCorrupt

REMEDY = (
    "Install the newest tasktrail and `tzdata`: a newer one may have recorded it. If it cannot be followed with these "
    "either, somebody has altered it: restore the newest backup from before."
)


class Unusable(LogCorrupt):
    """An order that no service here can follow."""

    def __init__(self, position: int, what: str) -> None:
        super().__init__(f"Position {position} cannot be followed here: {what}", remedy=REMEDY)
        self.position = position
