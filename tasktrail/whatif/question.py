"""The question: which limits differ from the recorded ones. The command line makes its options of its fields."""

from typing import Annotated

import msgspec
from msgspec.structs import replace

from ..events.commands import (
    Count,
    FairSharing,
    MaxConcurrent,
    MaxMemory,
    MaxPerLabel,
    MaxPerType,
    MaxPerUser,
    MaxTempSize,
    Name,
    Number,
    RateName,
    RateText,
    UserKey,
    says,
)
from ..events.system_events import LimitsChanged

MAX_ROWS = 10_000


class PolicyChange(
    msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True, tag_field="command", tag="whatif"
):
    """Changes of the recorded policy. A field that is left out stays as recorded, so an empty change changes nothing.

    The limits mean the same as in `SetLimits`, and hold from the first record to the last: they override later changes
    of the same limit in the log.
    """

    max_concurrent: MaxConcurrent = None
    workers: Annotated[Annotated[int, msgspec.Meta(ge=1, le=1024)] | None, says("Worker processes.")] = None
    max_memory: MaxMemory = None
    max_temp_size: MaxTempSize = None
    max_per_type: MaxPerType = None
    max_per_user: MaxPerUser = None
    max_per_label: MaxPerLabel = None
    types: Annotated[dict[Name, Number], says("A number for one type: video_convert=1.")] = {}
    users: Annotated[dict[UserKey, Number], says("A number for a user.", example="7=3")] = {}
    labels: Annotated[dict[Name, Number], says("A number for one label.", example="night=2")] = {}
    worker_labels: Annotated[
        dict[Name, Number], says("How many of the workers offer a label.", value="LABEL=N", example="gpu=2")
    ] = {}
    rates: Annotated[
        dict[RateName, RateText], says("The most starts in a period.", value="NAME=RATE", example="user:*=100/h")
    ] = {}
    windows: Annotated[
        tuple[str, ...] | None,
        says("When types may start, in place of what is configured.", value="TYPE=WINDOW,…", example="scan=22-06"),
    ] = None
    fair_share: FairSharing = None
    user_bonus: Annotated[bool, says("False: ignore the levels of users.")] = True
    backfill_bound: Annotated[Count | None, says("How many may start past one that does not fit.", value="N")] = None
    rows: Annotated[
        int, msgspec.Meta(ge=0, le=MAX_ROWS), says("Tasks listed, those that move most.", default=True, value="N")
    ] = 10

    @property
    def changes_nothing(self) -> bool:
        """Whether this is the recorded policy."""
        return replace(self, rows=0) == PolicyChange(rows=0)

    @property
    def limits(self) -> LimitsChanged:
        """The changed limits."""
        names = set(LimitsChanged.__struct_fields__) & set(self.__struct_fields__)
        return LimitsChanged(**{name: getattr(self, name) for name in names})
