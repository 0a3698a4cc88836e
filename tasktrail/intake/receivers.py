"""Checks who is to be told of a task. Nothing is sent here."""

from collections.abc import Collection
from difflib import get_close_matches

from ..actors.delivery.mail import one_address
from ..actors.delivery.ssrf import EndpointRefused, check_public, host_and_port, is_exempt, parse_endpoint
from ..events.commands import TaskFields
from ..events.errors import CONTRADICTION, InvalidValue
from ..projections.notices import ENDS


def check_receivers(
    command: TaskFields, allowed: Collection[str] | None = None, targets: Collection[str] | None = None
) -> None:
    """Raise `InvalidValue` for a field that names a receiver to which nothing could ever be sent.

    Only the address itself is read here, long before the first notice. What its name resolves to is checked before
    every delivery. `allowed`: hosts that are exempt from the rules for addresses. `targets`: the names that there are.
    Without them, where the configuration is not known, only the form is checked.
    """
    for field in ("notify_webhook", "callback_url"):
        _check_address(getattr(command, field), field, allowed)
    if command.notify_email:
        try:
            one_address(command.notify_email)
        except ValueError as error:
            raise InvalidValue(f"notify_email: {error}", field="notify_email") from error
        if command.notify_on and not ENDS.intersection(command.notify_on):
            raise InvalidValue(
                "notify_on names no end, so no mail would ever be sent", field="notify_on", status=CONTRADICTION
            )
    if targets is None:
        return
    for name in command.notify_targets:
        if name not in targets:
            near = get_close_matches(name, targets, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            remedy = "Targets are what the operator has named under [apprise] in the configuration."
            raise InvalidValue(f"There is no target {name!r}{hint}", field="notify_targets", remedy=remedy)


def _check_address(address: str, field: str, allowed: Collection[str] | None) -> None:
    if not address:
        return
    remedy = "Write it as https://HOST/PATH."  # no exception helps here
    try:
        url = parse_endpoint(address)
        remedy = "Use https and a public name, or have the operator add the host to `allow_endpoints`."
        if allowed is not None and not is_exempt(*host_and_port(url), allowed):
            check_public(url)
    except EndpointRefused as error:
        raise InvalidValue(f"{field}: {error}", field=field, remedy=remedy) from error
