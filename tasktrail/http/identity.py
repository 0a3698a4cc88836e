"""Who asks: what the owner of the data folder, a token or the session of a browser is called, and may do."""

from typing import Literal, TypeAlias

import msgspec

from ..events.system_events import Role

Way: TypeAlias = Literal["socket", "secret", "token", "session"]

OWNER = "http"
"""Who wants what the owner of the data folder has not signed: the history tells by it which way a command came in."""


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
    """What the forms of its session have to carry, in the field `csrf`; empty where there is no session."""

    @property
    def owner(self) -> bool:
        """Whether it is the owner of the data folder, and no token."""
        return self.name == OWNER

    def __repr__(self) -> str:
        """Without what nobody else should see."""
        return f"Identity({self.name!r}, {self.role}, user_id={self.user_id}, way={self.way!r})"
