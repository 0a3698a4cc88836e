"""Describes an event in one line for a person."""

from typing import assert_never

from ..events import Cancelled, Checkpointed, Completed, Created, Event, Failed, Progressed, Retried, Started
from ..events.counted import counted, plural
from ..events.ranges import shortened
from ..events.recorded import Stub, timestamp, to_the_second
from ..events.system_events import (
    Adjusted,
    ClockJumped,
    CommandRefused,
    Deduplicated,
    DeliveryAttempted,
    DeliveryPostponed,
    EndpointEnabled,
    ErasureFinished,
    LimitsChanged,
    NodeChanged,
    NodeDrainEnded,
    NodeDrainStarted,
    NodeJoined,
    NodeLeft,
    QueueDrained,
    QueuePaused,
    QueueResumed,
    RatesConfigured,
    RedeliveryRequested,
    RetentionConfigured,
    ScheduleAdded,
    ScheduleRemoved,
    SegmentArchived,
    ServiceStarted,
    ServiceStopped,
    SourceAdded,
    SourcePaused,
    SourceRemoved,
    SourceResumed,
    SystemEvent,
    TasksForgotten,
    TokenAdded,
    TokenRevoked,
    UserErased,
    WorkerExited,
    age_in_words,
)


def describe(event: Event) -> str:
    """Describe what happened. When, who and why are in the envelope."""
    match event:
        case Created():
            return _created(event)
        case Started():
            how = "resumed from its checkpoint" if event.resumed else "started"
            return f"{how} with effective priority {event.effective_priority:.1f}{_by(event.worker)}{_on(event.node)}"
        case Progressed():
            return f"{_percent(event.progress)}{_colon(event.message)}"
        case Checkpointed():
            reached = "" if event.progress is None else f" at {_percent(event.progress)}"
            return f"checkpoint saved{reached}{_colon(event.message)}"
        case Failed():
            return _failed(event)
        case Retried():
            when = f", not before {to_the_second(event.due_at)}" if event.due_at else ""
            more = f", with {event.estimate.memory:,} bytes of memory reserved" if event.estimate else ""
            return f"back to the queue ({event.cause}{', forced' if event.forced else ''}){more}{when}"
        case Cancelled():
            return "cancelled while running" if event.attempt_running else "cancelled while waiting"
        case Completed():
            return f"completed{_colon(event.message)}"
        case Stub():
            return "dropped: a later record says why"
        case _:
            return _system(event)


def _percent(progress: float) -> str:
    """The progress rounded down, so that 100 % means all of it."""
    return f"{int(progress * 10) / 10:.1f} %" if progress < 100 else "100 %"  # noqa: PLR2004 - all of it


def _system(event: SystemEvent) -> str:
    match event:
        case ServiceStarted():
            loss = event.accepted_loss
            without = f", without what was recorded up to {loss.known_position}" if loss else ""
            indexes = ", ".join(event.rebuilt_indexes)
            rebuilt = f"; damaged indexes were rebuilt: {indexes}" if indexes else ""
            who = f"service {event.version} started on {event.host}, pid {event.pid}, epoch {event.epoch}"
            return f"{who}{without}{rebuilt}"
        case ServiceStopped():
            return "service stopped"
        case ClockJumped():
            return f"the clock was set from {timestamp(event.shown)} to {timestamp(event.shows)}"
        case Adjusted():
            return f"task {event.task_id} adjusted: {_adjustment(event)}"
        case Deduplicated():
            asked = event.name or (f"the run of schedule {event.schedule}" if event.schedule else "the task asked for")
            return f"task {event.task_id} is unfinished and has the key of {asked}: no other was created"
        case WorkerExited():
            return f"worker {event.pid} ended with exit code {event.exit_code}{_colon(event.why)}"
        case DeliveryAttempted():
            return _delivery(event)
        case DeliveryPostponed():
            until = to_the_second(event.until)
            return f"{event.channel} to {event.target} waits until {until}: at most {event.limit} an hour"
        case RedeliveryRequested():
            return f"{event.channel} to {event.target} is to be sent again"
        case CommandRefused():
            what = f"{event.command} refused: {event.code}" if event.command else "more commands refused"
            about = "" if event.named_task is None else f", task {event.named_task}"
            return f"{what}{about}{f', {event.times} in all' if event.times > 1 or not event.command else ''}"
        case EndpointEnabled():
            return f"endpoint {event.target} enabled"
        case LimitsChanged():
            changes = {name: getattr(event, name) for name in event.__struct_fields__}
            listed = ", ".join(f"{name} {value}" for name, value in changes.items() if value not in (None, {}, False))
            return f"limits changed: {listed or 'fair_share off'}"
        case RatesConfigured():
            listed = ", ".join(f"{name} {rate}" for name, rate in event.rates.items())
            return f"rates configured: {listed or 'none'}"
        case QueuePaused():
            return f"{_scope(event)} {'is to be drained' if event.drain else 'paused'}"
        case QueueResumed():
            return f"{_scope(event)} resumed"
        case QueueDrained():
            return "the queue is drained: nothing runs any more"
        case ScheduleAdded():
            times = f"at `{event.cron}` in {event.timezone}" if event.cron else f"every {event.every:.15g} s"
            return f"schedule {event.schedule} added: {event.task.type} {times}"
        case ScheduleRemoved():
            return f"schedule {event.schedule} removed"
        case TokenAdded():
            whose = "" if event.user_id is None else f" for user {event.user_id}"
            until = "" if event.expires_at is None else f" until {to_the_second(event.expires_at)}"
            return f"token {event.token} added: {event.role}{whose}{until}"
        case TokenRevoked():
            return f"token {event.token} revoked"
        case SourceAdded():
            return f"source {event.source} added: {', '.join(event.inputs)} to {event.to}"
        case SourceRemoved():
            return f"source {event.source} removed"
        case SourcePaused():
            return f"source {event.source} paused"
        case SourceResumed():
            return f"source {event.source} resumed"
        case NodeJoined() | NodeChanged() | NodeLeft() | NodeDrainStarted() | NodeDrainEnded():
            return _node(event)
        case UserErased():
            plain = f", {event.plain} more are in plain text" if event.plain else ""
            return f"the user of {counted(len(event.tasks), 'task')} was erased{plain}"
        case ErasureFinished():
            return f"the erasure at position {event.erasure} is finished"
        case RetentionConfigured() | TasksForgotten() | SegmentArchived():
            return _bounded(event)
        case _:
            assert_never(event)


def _bounded(event: RetentionConfigured | TasksForgotten | SegmentArchived) -> str:
    match event:
        case RetentionConfigured():
            rules = "; ".join(rule.words for rule in event.rules) or "everything is kept"
            archived = (
                f"; archived after {age_in_words(event.archive_after)}" if event.archive_after is not None else ""
            )
            return f"retention configured: {rules}{archived}"
        case TasksForgotten():
            return f"tasks {shortened(event.tasks)} forgotten: {event.rule.words}"
        case SegmentArchived():
            again = " anew, without what was dropped" if event.replaces else ""
            return f"positions {event.first} to {event.last} archived{again}: {event.size:,} bytes"


def _scope(event: QueuePaused | QueueResumed) -> str:
    if event.type is not None:
        return f"type {event.type}"
    return "the queue" if event.user_id is None else f"user {event.user_id}"


def _delivery(event: DeliveryAttempted) -> str:
    end = "delivered" if event.ok else "given up" if event.final else "not delivered"
    disabled = "; the endpoint is disabled" if event.disabled else ""
    return f"{event.channel} to {event.target} {end}{_colon(event.detail)}{disabled}"


def _created(event: Created) -> str:
    paths = f" {event.input_file} → {event.output_file}" if event.input_file or event.output_file else ""
    when = f", not before {to_the_second(event.scheduled_for)}" if event.scheduled_for else ""
    return f"created as {event.type}{paths} with priority {event.priority}{when}{', held' if event.held else ''}"


def _failed(event: Failed) -> str:
    how = event.outcome.replace("_", " ")
    rule = f" [{event.rule}]" if event.rule and not event.error.startswith(f"{event.rule}:") else ""
    return f"{how}{' for good' if event.final else ''}{_colon(event.error)}{rule}"


def _adjustment(event: Adjusted) -> str:
    changes = []
    if event.held is not None:
        changes.append("held" if event.held else "released")
    if event.priority is not None:
        changes.append(f"priority {event.priority}")
    if event.scheduled_for is not None:
        changes.append(f"not before {to_the_second(event.scheduled_for)}")
    if event.ignored_dependency is not None:
        changes.append(f"waits no longer for task {event.ignored_dependency}")
    return ", ".join(changes) or "nothing"


def _by(worker: str) -> str:
    return f" by {worker}" if worker else ""


def _on(node: str) -> str:
    return f" on {node}" if node else ""


def _colon(text: str) -> str:
    return f": {text}" if text else ""


def _node(event: NodeJoined | NodeChanged | NodeLeft | NodeDrainStarted | NodeDrainEnded) -> str:
    match event:
        case NodeJoined() | NodeChanged():
            labels = "".join(f", {key}={value}" for key, value in sorted(event.labels.items()))
            cpus = f"{event.cpus:g} {plural(event.cpus, 'CPU')}"
            gpus = f", {event.gpus:g} {plural(event.gpus, 'GPU')}" if event.gpus else ""
            did = "joined" if isinstance(event, NodeJoined) else "changed"
            return f"node {event.node} {did}: {cpus}, {event.memory:,} bytes of memory{gpus}{labels}"
        case NodeLeft():
            return f"node {event.node} left"
        case NodeDrainStarted():
            return f"node {event.node} is being drained"
        case NodeDrainEnded():
            return f"node {event.node} is not drained any more"
