"""Takes a notice to its receiver by the way that its channel names."""

from datetime import datetime
from functools import lru_cache

from ...projections.notices.rules import Channel, Notice
from .endpoint import EndpointRefused, host_and_port, parse_endpoint
from .lifeline import Lifeline
from .mail import MailSender
from .result import Result
from .targets import TargetSender
from .webhook import WebhookSender


class Courier:
    """One object for all threads."""

    def __init__(self, webhooks: WebhookSender, mail: MailSender, targets: TargetSender) -> None:
        self._webhooks = webhooks
        self._mail = mail
        self._targets = targets

    def deliver(self, notice: Notice, lifeline: Lifeline, now: datetime) -> Result:
        """Try once, and say what came of it."""
        match notice.channel:
            case "webhook" | "callback":
                return self._webhooks.send(notice, lifeline, now)
            case "email":
                return self._mail.send(notice, lifeline)
            case "apprise":
                return self._targets.send(notice, lifeline)


@lru_cache(maxsize=4096)
def endpoint_of(channel: Channel, target: str) -> str:
    """Whose patience a delivery takes: the web server behind the address, the one mail server, or the target.

    What is no host and port has a space in it, so that no name of a target and no host is the same.
    """
    if channel == "email":
        return "mail server"
    if channel == "apprise":
        return f"target {target}"
    try:
        host, port = host_and_port(parse_endpoint(target))
    except EndpointRefused:
        return "refused addresses"
    return f"{host}:{port}"
