"""The stored form: tags that never change, JSON that anyone can read, errors that say what is wrong."""

import json
from typing import Any

import msgspec
import pytest

from tasktrail.events import Checkpoint, Checkpointed, Created
from tasktrail.events.errors import LogCorrupt, LogTooNew
from tasktrail.events.log.rows import decode, encode
from tasktrail.events.recorded import EVENT_TAGS
from tasktrail.events.values import MAX_INTEGER, MIN_INTEGER


def test_the_stored_tags_are_frozen() -> None:
    """Every log contains the tags. Renaming a class is free; a tag here may be added, never changed."""
    assert {cls.__name__: tag for cls, tag in EVENT_TAGS.items()} == {
        "Created": "created",
        "Started": "started",
        "Progressed": "progressed",
        "Checkpointed": "checkpointed",
        "Failed": "failed",
        "Retried": "retried",
        "Cancelled": "cancelled",
        "Completed": "completed",
        "ServiceStarted": "service_started",
        "ServiceStopped": "service_stopped",
        "ClockJumped": "clock_jumped",
        "Adjusted": "adjusted",
        "Deduplicated": "deduplicated",
        "LimitsChanged": "limits_changed",
        "RatesConfigured": "rates_configured",
        "QueuePaused": "queue_paused",
        "QueueResumed": "queue_resumed",
        "QueueDrained": "queue_drained",
        "ScheduleAdded": "schedule_added",
        "ScheduleRemoved": "schedule_removed",
        "WorkerExited": "worker_exited",
        "NodeJoined": "node_joined",
        "NodeChanged": "node_changed",
        "NodeLeft": "node_left",
        "NodeDrainStarted": "node_drain_started",
        "NodeDrainEnded": "node_drain_ended",
        "DeliveryAttempted": "delivery_attempted",
        "DeliveryPostponed": "delivery_postponed",
        "RedeliveryRequested": "redelivery_requested",
        "EndpointEnabled": "endpoint_enabled",
        "CommandRefused": "command_refused",
        "TokenAdded": "token_added",
        "TokenRevoked": "token_revoked",
        "SourceAdded": "source_added",
        "SourceRemoved": "source_removed",
        "SourcePaused": "source_paused",
        "SourceResumed": "source_resumed",
        "UserErased": "user_erased",
        "ErasureFinished": "erasure_finished",
        "RetentionConfigured": "retention_configured",
        "TasksForgotten": "tasks_forgotten",
        "SegmentArchived": "segment_archived",
        "Stub": "stub",
    }


def test_the_payload_is_plain_json_with_the_defaults_left_out() -> None:
    tag, data = encode(Created(type="video_convert", priority=5, options={"width": 640}))
    assert tag == "created"
    assert json.loads(data) == {"type": "video_convert", "priority": 5, "options": {"width": 640}}


def test_equal_events_are_stored_alike_whatever_the_order_of_their_keys() -> None:
    one, other = {"a": 1, "b": {"c": 2, "d": 3}}, {"b": {"d": 3, "c": 2}, "a": 1}
    assert encode(Created(type="noop", options=one)) == encode(Created(type="noop", options=other))


@pytest.mark.parametrize("event", EVENT_TAGS)
def test_every_field_of_every_event_but_the_needed_ones_has_a_default(event: type[msgspec.Struct]) -> None:
    """A field without a default cannot be added later: old records do not have it."""
    needed = {
        "created": {"type"},
        "progressed": {"progress"},
        "checkpointed": {"checkpoint"},
        "failed": {"outcome", "error", "final"},
        "retried": {"cause"},
        "service_started": {"version", "epoch", "pid", "host"},
        "clock_jumped": {"shown", "shows"},
        "adjusted": {"task_id"},
        "deduplicated": {"task_id"},
        "schedule_added": {"schedule", "task", "starting_at"},
        "schedule_removed": {"schedule"},
        "worker_exited": {"pid", "exit_code", "why"},
        "node_joined": {"node"},
        "node_changed": {"node"},
        "node_left": {"node"},
        "node_drain_started": {"node"},
        "node_drain_ended": {"node"},
        "delivery_attempted": {"notice_id", "task_id", "channel", "target", "ok"},
        "delivery_postponed": {"notice_id", "task_id", "channel", "target", "until", "limit"},
        "redelivery_requested": {"notice_id", "task_id", "channel", "target", "told"},
        "endpoint_enabled": {"target"},
        "token_added": {"token", "role", "digest"},
        "token_revoked": {"token"},
        "source_added": {"source", "inputs", "to"},
        "source_removed": {"source"},
        "source_paused": {"source"},
        "source_resumed": {"source"},
        "user_erased": {"keys", "tasks"},
        "erasure_finished": {"erasure"},
        "tasks_forgotten": {"tasks", "positions", "stubs", "rule"},
        "segment_archived": {"first", "last", "root", "sha256", "size", "newest_task"},
    }
    required = {field.name for field in msgspec.structs.fields(event) if field.required}
    assert required == needed.get(EVENT_TAGS[event], set())


@pytest.mark.parametrize(
    ("tag", "data"),
    [
        ("progressed", '{"progress":1.5,"speed":"high"}'),
        ("checkpointed", '{"checkpoint":{"last_position":1.0,"tempo":2}}'),
        ("started", '{"terms":{"base":1,"luck":2}}'),
        ("service_stopped", '{"why":"night"}'),
    ],
)
def test_a_field_of_a_later_version_is_refused_with_its_position(tag: str, data: str) -> None:
    """It may change the meaning of the others: an older version would fold the log to something else."""
    with pytest.raises(LogTooNew, match=rf"Position 41 holds a `{tag}` .*unknown field"):
        decode(tag, data, 41)


def test_no_part_of_an_event_passes_over_what_it_does_not_know() -> None:
    parts: set[type[msgspec.Struct]] = set()

    def look(at: Any) -> None:
        if isinstance(at, msgspec.inspect.StructType) and at.cls not in parts:
            parts.add(at.cls)
            for field in at.fields:
                look(field.type)
        for name in ("item_type", "value_type", "types", "item_types"):
            more = getattr(at, name, ())
            for one in more if isinstance(more, tuple) else (more,):
                look(one)

    for event in EVENT_TAGS:
        look(msgspec.inspect.type_info(event))
    assert len(parts) > len(EVENT_TAGS)
    assert [part.__name__ for part in parts if not part.__struct_config__.forbid_unknown_fields] == []


def test_times_in_events_have_a_zone_and_numbers_fit_into_views() -> None:
    """Other values could be neither compared nor stored."""
    without = []

    def look(at: Any, path: str) -> None:
        if isinstance(at, msgspec.inspect.DateTimeType) and not at.tz:
            without.append(path)
        if isinstance(at, msgspec.inspect.IntType) and (at.ge, at.le) != (MIN_INTEGER, MAX_INTEGER):
            without.append(path)
        for field in getattr(at, "fields", ()):
            look(field.type, f"{path}.{field.name}")
        for name in ("item_type", "value_type", "types", "item_types"):
            more = getattr(at, name, ())
            for one in more if isinstance(more, tuple) else (more,):
                look(one, path)

    for event, tag in EVENT_TAGS.items():
        look(msgspec.inspect.type_info(event), tag)
    # Older logs have larger values of these, and no view has a column for them.
    assert {path.rpartition(".")[2] for path in without} == {"estimated_memory", "estimated_temp", "named_task"}
    with pytest.raises(LogCorrupt, match=r"Position 7 .*timezone"):
        decode("clock_jumped", '{"shown":"2026-01-01T00:00:00","shows":"2026-01-01T00:00:00Z"}', 7)
    with pytest.raises(LogCorrupt, match=r"Position 7 .*<= 9223372036854775807"):
        decode("created", f'{{"type":"noop","user_id":{2**70}}}', 7)


def test_an_event_of_a_later_version_is_refused_with_its_position() -> None:
    with pytest.raises(LogTooNew, match=r"41.*melted"):
        decode("melted", "{}", 41)


@pytest.mark.parametrize(
    "data", ["", "{", "[]", "null", "{}", '{"progress":"much"}', '{"progress":null}', b"\xff\xfe", "[" * 100_000]
)
def test_a_payload_that_does_not_fit_is_corrupt_and_names_its_position(data: str | bytes) -> None:
    with pytest.raises(LogCorrupt, match="Position 7"):
        decode("progressed", data, 7)


def test_a_checkpoint_comes_back_with_its_own_type() -> None:
    event = Checkpointed(
        checkpoint=Checkpoint(processed_frames=3, temp_files=("a.part",), data={"deep": [1, {"b": 2}]})
    )
    assert decode(*encode(event)) == event
