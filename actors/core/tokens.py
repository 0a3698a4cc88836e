"""The tokens with which programs and people use the port: which there are, and what each may do. A fold of the log."""

import re
from datetime import UTC, datetime

import msgspec

from ...events import Fact
from ...events.commands import AddToken, RevokeToken
from ...events.errors import CONFLICT, InvalidValue, TokenExists, UnknownToken
from ...events.recorded import SERVICE_ACTORS
from ...events.system_events import Role, TokenAdded, TokenRevoked

_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._@+-]{0,63}")


class Token(msgspec.Struct, frozen=True, kw_only=True):
    """A token that was added and not revoked."""

    token: str
    """Its name."""
    role: Role
    user_id: int | None
    """The only user whose tasks it may read and change; None for all tasks."""
    expires_at: datetime | None
    digest: str
    """SHA-256 of the secret, in hex. The secret itself is known only to whoever uses it."""
    added_at: datetime
    actor: str
    """Who added it; `reason` says why."""
    reason: str
    position: int

    def holds(self, now: datetime) -> bool:
        """Whether it has not expired."""
        return self.expires_at is None or now < self.expires_at


class Tokens(msgspec.Struct):
    """All tokens by name."""

    by_name: dict[str, Token] = {}
    changed_at: int = 0
    """Position of the last change."""

    def apply(self, fact: Fact, position: int) -> None:
        """Fold one record."""
        match fact.event:
            case TokenAdded() as event:
                self.by_name[event.token] = Token(
                    token=event.token,
                    role=event.role,
                    user_id=event.user_id,
                    expires_at=event.expires_at,
                    digest=event.digest,
                    added_at=fact.recorded_at,
                    actor=fact.actor,
                    reason=fact.reason,
                    position=position,
                )
            case TokenRevoked() as event:
                self.by_name.pop(event.token, None)
            case _:
                return
        self.changed_at = position


def added_token(tokens: Tokens, command: AddToken, now: datetime) -> TokenAdded:
    """The event for a new token. Raises `TokenExists`, and `InvalidValue` for a token that would be of no use."""
    if not _NAME.fullmatch(command.token) or command.token.lower() in SERVICE_ACTORS:
        raise InvalidValue(
            f"{command.token!r} cannot be the name of a token",
            field="token",
            remedy="Take up to 64 letters, digits and . _ @ + -, and not the name of a part of the service.",
        )
    if command.token in tokens.by_name:
        raise TokenExists(f"There is a token {command.token} already", field="token")
    if any(token.digest == command.digest for token in tokens.by_name.values()):
        raise TokenExists("There is a token with this secret already", field="digest")
    if command.user_id is not None and command.role == "admin":
        raise InvalidValue(
            "An admin gives out tokens for all users, and cannot be bound to one",
            field="user_id",
            remedy="Leave the user out, or take another role.",
        )
    expires_at = command.expires_at and command.expires_at.astimezone(UTC)
    if expires_at is not None and expires_at <= now:
        raise InvalidValue(
            "The token would have expired already", field="expires_at", remedy="Give a later time.", status=CONFLICT
        )
    return TokenAdded(
        token=command.token, role=command.role, user_id=command.user_id, expires_at=expires_at, digest=command.digest
    )


def revoked_token(tokens: Tokens, command: RevokeToken) -> TokenRevoked:
    """The event for the end of a token. Raises `UnknownToken`."""
    if command.token not in tokens.by_name:
        raise UnknownToken(f"There is no token {command.token}", field="token")
    return TokenRevoked(token=command.token)
