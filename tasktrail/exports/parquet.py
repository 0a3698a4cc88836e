"""Parquet: DuckDB reads the rows as JSON Lines and writes a file whose columns have types, in bounded memory."""

from importlib.util import find_spec
from pathlib import Path

from ..events.errors import InvalidValue
from .columns import EXPORT_COLUMNS, ColumnKind
from .rows import What

_TYPES: dict[ColumnKind, str] = {
    "whole": "BIGINT",
    "number": "DOUBLE",
    "truth": "BOOLEAN",
    "time": "TIMESTAMPTZ",
    "text": "VARCHAR",
    "json": "JSON",
}
_MEMORY = "400MB"
_ROWS = 16_384
"""Rows of a group. Each group is held in memory before it is written."""


def check_parquet() -> None:
    """Raise `InvalidValue` if the package for Parquet is not installed."""
    if find_spec("duckdb") is None:
        raise InvalidValue(
            "Parquet needs the package duckdb, which is not installed",
            field="format",
            remedy="Install tasktrail[parquet], or choose another format.",
        )


def to_parquet(lines: Path, file: Path, what: What) -> None:
    """Write rows from JSON Lines as Parquet to an existing file. Raises `OSError`."""
    import duckdb

    # No extension is downloaded: the package has all that is needed.
    settings: dict[str, str | bool | int | float | list[str]] = {
        "threads": 1,
        "memory_limit": _MEMORY,
        "temp_directory": str(file.parent),
        "autoinstall_known_extensions": False,
    }
    columns = {column.name: _TYPES[column.kind] for column in EXPORT_COLUMNS[what]}
    rows = "SELECT * FROM read_json($lines, format = 'newline_delimited', columns = $columns)"
    how = f"FORMAT parquet, COMPRESSION zstd, ROW_GROUP_SIZE {_ROWS:d}, USE_TMP_FILE false"
    try:
        with duckdb.connect(":memory:", config=settings) as database:
            database.execute(
                f"COPY ({rows}) TO $file ({how})", {"lines": str(lines), "columns": columns, "file": str(file)}
            )
    except duckdb.IOException as error:
        raise OSError(str(error)) from error
