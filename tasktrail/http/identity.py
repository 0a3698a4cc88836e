"""The identity of a caller: the owner of the data folder, a token, or a browser's session; and what it may do."""

from typing import Literal, TypeAlias

import msgspec

from ..events.system_events import Role

Way: TypeAlias = Literal["socket", "secret", "token", "session"]

OWNER = "http"
"""The actor of the owner's commands that name none: the history shows by it that they came over HTTP."""


class Identity(msgspec.Struct, frozen=True, kw_only=True):
    """Who sends a request. Routes take it as `who: NamedDependency[Identity]`."""

    name: str
    """Recorded as the actor; `http` for the owner, who may name another one."""
    role: Role
    user_id: int | None = None
    """The only user whose tasks it sees and touches; None: all tasks."""
    way: Way
    credential: str
    """SHA-256 of the secret or token that was shown, or that the session began with, in hex."""
    session: str = ""
    """SHA-256 of the cookie of its session, in hex; empty where there is no session."""
    csrf: str = ""
    """The token that forms of its session have to send in the field `csrf`; empty where there is no session."""

    @property
    def owner(self) -> bool:
        """Whether it is the owner of the data folder, and no token."""
        return self.name == OWNER

    def __repr__(self) -> str:
        """Leave out the secret fields."""
        return f"Identity({self.name!r}, {self.role}, user_id={self.user_id}, way={self.way!r})"
