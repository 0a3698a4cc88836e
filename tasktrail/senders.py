"""Delivers notices through senders that always have the current configuration."""

from collections.abc import Callable
from datetime import datetime

from .actors.delivery.attempt import Deadline, Result
from .actors.delivery.mail import MailSender, MailServer
from .actors.delivery.targets import TargetSender
from .actors.notifier import Senders
from .config.settings import Config
from .projections.notices import Notice


class CurrentSenders:
    """Makes new senders when the configuration has changed.

    Args:
        config: returns the current configuration.
    """

    def __init__(self, config: Callable[[], Config]) -> None:
        self._config = config
        self._made: tuple[Config, Senders] | None = None
        """The latest senders, with the configuration that they were made from."""

    def deliver(self, notice: Notice, deadline: Deadline, now: datetime) -> Result:
        """Deliver a notice."""
        config, made = self._config(), self._made
        if made is None or made[0] is not config:
            made = self._made = config, self.make(config)
        return made[1].deliver(notice, deadline, now)

    def make(self, config: Config) -> Senders:
        """Make the senders. Called at the first notice: their modules take long to import and read all certificates."""
        from .actors.delivery.post import Poster
        from .actors.delivery.webhook import WebhookSender

        smtp = config.smtp
        fields = {name: getattr(smtp, name) for name in MailServer.__struct_fields__} | {"tls": smtp.tls_at_once}
        server = MailServer(**fields) if smtp.host else None
        webhooks = WebhookSender(config.webhook_secret, Poster(config.allow_endpoints))
        return Senders(webhooks, MailSender(server), TargetSender(config.apprise))
