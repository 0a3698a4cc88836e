"""Fixtures and rules for all tests."""

import os
import signal
from collections.abc import Iterator
from typing import Any
from zlib import crc32

import pytest
import stay_home
import structlog
from hypothesis import settings

# A shared machine stalls at times, so the time of one example says nothing. The suite's own timeout remains.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")
stay_home.watch()


def pytest_addoption(parser: pytest.Parser) -> None:
    for what in ("quick", "slow"):
        parser.addoption(f"--{what}", default="1/1", metavar="K/N", help=f"of all {what} tests the Kth of N parts")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    kept: list[pytest.Item] = []
    left_out: list[pytest.Item] = []
    for item in items:
        is_slow = item.get_closest_marker("slow") or item.get_closest_marker("crash")
        part, parts = map(int, config.getoption("slow" if is_slow else "quick").split("/"))
        (kept if (crc32(item.nodeid.encode()) - part) % parts == 0 else left_out).append(item)
    items[:] = kept
    if left_out:
        config.hook.pytest_deselected(items=left_out)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Give each test to a free worker, but those of the hostile corpus to one: it is worked through once, for long.

    Groups of pytest-xdist 3.8 would do that, but pytest 9.2 ignores them.
    """
    from xdist.scheduler import LoadScopeScheduling  # noqa: PLC0415 - not every environment has it

    class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            path = nodeid.partition("::")[0]
            return path if path == "tests/hostile/test_corpus.py" else nodeid

    return Scheduling(config, log)


@pytest.fixture(scope="session")
def ray_address() -> Iterator[str]:
    """Return the address of a Ray cluster on this machine, one for all tests."""
    pytest.importorskip("ray", reason="Ray is not installed; `make test-ray` has it")
    from ray_head import RayHead  # noqa: PLC0415 - most tests need none

    head = RayHead()
    yield head.address
    head.close()


@pytest.fixture(scope="session")
def ray_gateway(ray_address: str) -> Iterator[Any]:
    """One gateway process for the executors of many tests."""
    from cluster_executors import SharedGateway  # noqa: PLC0415 - as above

    gateway = SharedGateway(ray_address)
    yield gateway
    gateway.close()


@pytest.fixture(autouse=True, scope="session")
def _heeds_ctrl_c() -> None:
    """A pytest that a script has started with `&` ignores SIGINT, and all that it starts would, too."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(autouse=True)
def _in_ordinary_time() -> Iterator[None]:
    """As root, the AV1 encoder makes its caller a real-time process, whose children then starve all other processes."""
    yield
    if hasattr(os, "sched_setscheduler") and os.sched_getscheduler(0) != os.SCHED_OTHER:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


@pytest.fixture(autouse=True)
def _loggers_keep_nothing(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Otherwise they keep what one test has set up for good, and a later test captures none of their lines."""
    configure = structlog.configure
    monkeypatch.setattr(
        structlog, "configure", lambda **settings: configure(**{**settings, "cache_logger_on_first_use": False})
    )
    yield
    structlog.reset_defaults()


@pytest.fixture(autouse=True)
def _nobody_left_home() -> Iterator[None]:
    stay_home.left_home.clear()
    yield
    assert stay_home.left_home == []
