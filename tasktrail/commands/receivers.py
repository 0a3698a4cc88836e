"""Whether those who are to be told can be told at all: looked at when a task is created, long before its end.

Only what the address itself says. What a name means is looked at before every delivery.
"""

from collections.abc import Collection
from difflib import get_close_matches

from ..actors.delivery.mail import one_address
from ..actors.delivery.ssrf import EndpointRefused, check_public, host_and_port, is_exempt, parse_endpoint
from ..events.commands import TaskFields
from ..events.errors import InvalidValue
from ..projections.notices.rules import ENDS


def check_receivers(command: TaskFields, allowed: Collection[str], targets: Collection[str]) -> None:
    """Raises `InvalidValue` naming the field that nothing could ever be sent to.

    Args:
        command: asks for a task.
        allowed: hosts that are exempt from the rules for addresses.
        targets: names in the configuration.
    """
    for field in ("notify_webhook", "callback_url"):
        _check_address(getattr(command, field), field, allowed)
    if command.notify_email:
        try:
            one_address(command.notify_email)
        except ValueError as error:
            raise InvalidValue(f"notify_email: {error}", field="notify_email") from error
        if command.notify_on and not ENDS.intersection(command.notify_on):
            raise InvalidValue("notify_on names no end, so no mail would ever be sent", field="notify_on")
    for name in command.notify_targets:
        if name not in targets:
            near = get_close_matches(name, targets, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            remedy = "Targets are what the operator has named under [apprise] in the configuration."
            raise InvalidValue(f"There is no target {name!r}{hint}", field="notify_targets", remedy=remedy)


def _check_address(address: str, field: str, allowed: Collection[str]) -> None:
    if not address:
        return
    try:
        url = parse_endpoint(address)
        if not is_exempt(*host_and_port(url), allowed):
            check_public(url)
    except EndpointRefused as error:
        remedy = "Use https and a public name, or have the operator add the host to `allow_endpoints`."
        raise InvalidValue(f"{field}: {error}", field=field, remedy=remedy) from error
