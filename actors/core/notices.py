"""Commands about notices: they are recorded for the Notifier and change no task."""

from ...events import EnableEndpoint, RedeliverNotice
from ...events.commands import NoticeCommand
from ...events.system_events import EndpointEnabled
from ...projections.errors import UnknownNotice
from ..errors import EndpointDisabled, UnknownEndpoint
from .messages import Intake
from .turn import Origin, Turn


def carry_out(turn: Turn, command: NoticeCommand, intake: Intake, origin: Origin) -> tuple[int, int]:
    """Record the wish; (position, task id), the latter 0 for an endpoint. Raises what stands against it."""
    match command:
        case RedeliverNotice():
            wanted = intake.redelivery
            if wanted is None:
                raise UnknownNotice(f"Task {command.task_id} has no notice {command.notice_id}", field="notice_id")
            if wanted.target in turn.state.disabled:
                raise EndpointDisabled(f"{wanted.target} has said that it is gone", field="notice_id")
            return turn.record(0, wanted, origin), command.task_id
        case EnableEndpoint():
            if command.target not in turn.state.disabled:
                raise UnknownEndpoint(f"{command.target} is not disabled", field="target")
            return turn.record(0, EndpointEnabled(target=command.target), origin), 0
