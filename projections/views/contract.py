"""The public SQL views: their names and columns stay the same, however the tables below them change.

A column may be added at the end of a view. Any other change makes a new view with the next number in its name;
docs/reference/sql.md says how long the old one stays.
"""

_TEXT = "coalesce(json_extract({0}, '$.{1}'), '')"
_WHOLE = "coalesce(json_extract({0}, '$.{1}'), 0)"
_REAL = "coalesce(json_extract({0}, '$.{1}'), 0.0)"
_JSON_OBJECT = "coalesce(json_extract({0}, '$.{1}'), '{{}}')"
_JSON_ARRAY = "coalesce(json_extract({0}, '$.{1}'), '[]')"
# All times have one form: UTC with six digits. A time that was given with another offset keeps only milliseconds.
_TIME = """CASE
        WHEN json_extract({0}, '$.{1}') LIKE '%.______Z' THEN json_extract({0}, '$.{1}')
        WHEN json_extract({0}, '$.{1}') LIKE '%Z' THEN replace(json_extract({0}, '$.{1}'), 'Z', '.000000Z')
        ELSE strftime('%Y-%m-%dT%H:%M:%f000Z', json_extract({0}, '$.{1}'))
    END"""
_OWN = "{1}"

_TASKS = (
    ("id", _OWN, ""),
    ("type", _OWN, ""),
    ("status", _OWN, ""),
    ("priority", _OWN, ""),
    ("user_id", _OWN, ""),
    ("document_id", _OWN, ""),
    ("parent_task_id", "nullif({1}, 0)", ""),
    ("label", _OWN, ""),
    ("batch", _OWN, ""),
    ("schedule", _TEXT, "spec"),
    ("input_file", _TEXT, "spec"),
    ("output_file", _TEXT, "spec"),
    ("options", _JSON_OBJECT, "spec"),
    ("depends_on", _JSON_ARRAY, "spec"),
    ("created_at", _TIME, "state"),
    ("updated_at", _TIME, "state"),
    ("scheduled_for", _TIME, "state"),
    ("due_at", _TIME, "state"),
    ("started_at", _TIME, "state"),
    ("completed_at", _TIME, "state"),
    ("duration", _REAL, "state"),
    ("held", _WHOLE, "state"),
    ("progress", _REAL, "state"),
    ("message", _TEXT, "state"),
    ("error", _TEXT, "state"),
    ("error_type", _TEXT, "state"),
    ("last_error", _TEXT, "state"),
    ("result", _JSON_OBJECT, "state"),
    ("attempt", _WHOLE, "state"),
    ("life", "coalesce(json_extract({0}, '$.{1}'), 1)", "state"),
    ("retry_count", _WHOLE, "state"),
    ("max_retries", _WHOLE, "spec"),
    ("crash_count", _WHOLE, "state"),
    ("memory_used", _WHOLE, "state"),
    ("cpu_used", _REAL, "state"),
    ("temp_used", _WHOLE, "state"),
    ("time_used", _REAL, "state"),
    ("version", "coalesce(json_extract({0}, '$.{1}'), 1)", "state"),
)
"""The columns of `tasks_v1`: name, expression, and the JSON column that has it."""

VIEWS = (
    "CREATE VIEW tasks_v1 AS SELECT\n    "
    + ",\n    ".join(f"{found.format(where, name)} AS {name}" for name, found, where in _TASKS)
    + "\nFROM tasks",
    "CREATE VIEW counts_v1 AS SELECT type, status, number FROM counts WHERE number > 0",
    """CREATE VIEW notices_v1 AS SELECT task_id, version, channel, notice_id, target, event, position, recorded_at,
    state, tries, detail, tried_at, next_at FROM notices""",
    "CREATE VIEW dependencies_v1 AS SELECT task_id, depends_on FROM dependants",
    "CREATE VIEW endpoints_v1 AS SELECT target, position, since, detail FROM disabled",
    "CREATE VIEW position_v1 AS SELECT position, lower(hex(hash)) AS hash, recorded_at, log FROM progress",
)
"""The statements that create the views."""
