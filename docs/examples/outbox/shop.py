"""A shop that has an invoice made for each order. Order and task are one transaction of the shop's own database."""

import json
import sqlite3
import sys
import uuid
from contextlib import closing

from tasktrail import Client, TasktrailError

TABLES = """
CREATE TABLE IF NOT EXISTS orders (id INTEGER PRIMARY KEY, article TEXT NOT NULL);
CREATE TABLE IF NOT EXISTS outbox (
    id INTEGER PRIMARY KEY,
    fields TEXT NOT NULL,  -- of `create_task`, with the command id
    task_id INTEGER,       -- once the service has taken it
    refusal TEXT           -- or why it never will
);
"""
FOR_GOOD = (400, 404, 409, 413, 422)
"""Statuses of a refusal that will not be another tomorrow."""


def place_order(shop: sqlite3.Connection, article: str) -> None:
    """Record the order, and that it needs an invoice: both or neither."""
    with shop:
        order = shop.execute("INSERT INTO orders (article) VALUES (?)", (article,)).lastrowid
        wanted = {"order": order, "article": article}
        fields = {"type": "invoice", "options": wanted, "command_id": str(uuid.uuid4())}
        shop.execute("INSERT INTO outbox (fields) VALUES (?)", (json.dumps(fields),))


def relay(shop: sqlite3.Connection, tasks: Client) -> None:
    """Send what waits, in order. It may be interrupted anywhere: what was sent is sent again, under its command id."""
    waiting = shop.execute("SELECT id, fields FROM outbox WHERE task_id IS NULL AND refusal IS NULL ORDER BY id")
    for row, fields in waiting.fetchall():
        task_id, refusal = None, None
        try:
            task_id = tasks.create_task(**json.loads(fields))
        except TasktrailError as error:
            if error.status not in FOR_GOOD:  # the row stays as it is, and its turn comes again
                raise
            refusal = str(error)
        with shop:
            shop.execute("UPDATE outbox SET task_id = ?, refusal = ? WHERE id = ?", (task_id, refusal, row))


def main(what: str, *articles: str) -> None:
    """`order ARTICLE…` or `relay`."""
    with closing(sqlite3.connect("shop.db")) as shop:
        shop.executescript(f"PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; {TABLES}")
        if what == "order":
            for article in articles:
                place_order(shop, article)
        else:
            with Client.connect("data") as tasks:
                relay(shop, tasks)


if __name__ == "__main__":
    main(*sys.argv[1:])
