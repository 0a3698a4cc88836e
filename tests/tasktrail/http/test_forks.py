"""A client made before its process forked serves both processes, as web servers need that load the program first."""

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from textwrap import dedent
from typing import Any

import pytest

from tasktrail import TaskService
from tasktrail.http.server import HttpServer

FORKING = """
    import asyncio, os, sys
    from tasktrail import AsyncClient, Client

    data, first = sys.argv[1], int(sys.argv[2])
    children, questions = 4, 40

    blocking, awaited = Client.connect(data), AsyncClient.connect(data)
    blocking.get_task(first)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(awaited.get_task(first))

    async def ask(task_id):
        return (await awaited.get_task(task_id)).id, (await awaited.wait(first, timeout=20)).status

    begin, go = os.pipe()
    forked = []
    for child in range(children):
        if not (pid := os.fork()):
            os.close(go)
            os.read(begin, 1)  # all begin at once
            wanted = first + child
            wrong = any(blocking.get_task(wanted).id != wanted for _ in range(questions))
            wrong |= asyncio.run(ask(wanted)) != (wanted, "cancelled")
            os._exit(wrong)
        forked.append(pid)
    os.close(go)
    codes = [os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) for pid in forked]
    assert blocking.get_task(first).id == loop.run_until_complete(awaited.get_task(first)).id == first
    print(codes)
"""

CHILD_ASKS = """
    import os, sys, threading
    from tasktrail import Client

    tasks = Client.connect(sys.argv[1])
    total = tasks.stats().total
    if not (pid := os.fork()):
        threads = [threading.Thread(target=lambda: totals.append(tasks.stats().total)) for _ in range(8)]
        totals = []
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        tasks.close()
        sys.exit(totals != 8 * [total])
    assert os.waitpid(pid, 0)[1] == 0
    assert tasks.stats().total == total
    tasks.close()
    if not (pid := os.fork()):
        sys.exit(tasks.close())
    assert os.waitpid(pid, 0)[1] == 0
"""


@pytest.mark.slow
def test_no_connection_is_left_to_be_collected(server: HttpServer, data: Path) -> None:
    """Python warns of such a one, which a test with warnings as errors does not pass."""
    assert server.address
    command = [sys.executable, "-W", "ignore", "-W", "always::ResourceWarning", "-c", dedent(CHILD_ASKS), str(data)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.slow
def test_each_process_has_connections_of_its_own(
    server: HttpServer, service: TaskService, data: Path, wish: Callable[..., dict[str, Any]]
) -> None:
    assert server.address
    first, *_ = [service.create_task(**wish()) for _ in range(4)]
    service.cancel_task(first)
    command = [sys.executable, "-c", dedent(FORKING), str(data), str(first)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.stdout, done.returncode) == ("[0, 0, 0, 0]\n", 0), done.stderr
