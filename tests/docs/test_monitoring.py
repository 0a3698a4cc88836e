"""The dashboard, the alert rules and the page of metrics name only existing metrics and labels."""

import json
import re
import shutil
import subprocess
from pathlib import Path

import pytest
from prometheus_client.metrics_core import Metric
from prometheus_client.parser import text_string_to_metric_families

from tasktrail.actors.core.board import MachineNow, Resources
from tasktrail.actors.core.load import Load
from tasktrail.events.clock import SystemClock
from tasktrail.http.counting import RequestCounts
from tasktrail.telemetry.exposition import Exposition
from tasktrail.telemetry.numbers import ServiceNumbers
from tasktrail.telemetry.readings import Readings

DOCS = Path(__file__).parents[2] / "docs"
ALERTS = DOCS / "monitoring/alerts.yml"
PLAYED = Path(__file__).parent / "alerts_test.yml"
DASHBOARD = DOCS / "monitoring/grafana-dashboard.json"
SUFFIXES = ("_bucket", "_sum", "_count", "_total", "_info")
NAME = re.compile(r"\b(?:tasktrail|process)_[a-z_]+")


@pytest.fixture(scope="module")
def families() -> dict[str, Metric]:
    """Return all metrics of a service with limits, by name."""
    sample = MachineNow(cpu_percent=1.0, memory_available=1, temp_free=1, memory_total=1, temp_total=1, disk_low=False)
    resources = Resources(
        slots=1,
        max_concurrent=1,
        reserved_memory=1,
        max_memory=1,
        reserved_temp=1,
        max_temp_size=1,
        max_cpu=90.0,
        sample=sample,
    )
    seen = Readings(
        tasks={("known", "pending"): 1},
        load=Load(waiting={}, running={"known": 1}, paused=False, resources=resources),
        position=1,
        log_bytes=1,
        views_lag=0,
        notices_lag=0,
        notices_waiting=0,
        ready=True,
        degraded=0,
        spans_sent=1,
        log_silent=1.0,
        spans_dropped=0,
    )
    numbers = ServiceNumbers(["known"], SystemClock())
    try:
        page, _ = Exposition(numbers, lambda: seen, [RequestCounts()]).page("")
    finally:
        numbers.close()
    return {family.name: family for family in text_string_to_metric_families(page.decode())}


def base(name: str, families: dict[str, Metric]) -> str:
    """Return the family of a name, or the name itself."""
    for suffix in SUFFIXES:
        if name.removesuffix(suffix) in families:
            return name.removesuffix(suffix)
    return name


def unknown(text: str, families: dict[str, Metric]) -> set[str]:
    """Return the names in a text that no family has."""
    return {name for name in NAME.findall(text) if base(name, families) not in families}


def expressions() -> list[str]:
    board = json.loads(DASHBOARD.read_text(encoding="utf-8"))
    return [target["expr"] for panel in board["panels"] for target in panel.get("targets", ())]


def test_the_dashboard_asks_for_what_there_is(families: dict[str, Metric]) -> None:
    assert len(expressions()) > 30
    assert unknown("\n".join(expressions()), families) == set()


def test_the_dashboard_has_ids_of_its_own_and_panels_that_do_not_overlap() -> None:
    panels = json.loads(DASHBOARD.read_text(encoding="utf-8"))["panels"]
    assert len({panel["id"] for panel in panels}) == len(panels)
    taken: set[tuple[int, int]] = set()
    for panel in panels:
        place = panel["gridPos"]
        cells = {(place["x"] + x, place["y"] + y) for x in range(place["w"]) for y in range(place["h"])}
        assert not cells & taken, panel["title"]
        taken |= cells


def test_the_alerts_ask_for_what_there_is_and_each_says_what_to_do(families: dict[str, Metric]) -> None:
    rules = ALERTS.read_text(encoding="utf-8")
    assert unknown(rules, families) == set()
    alerts = re.findall(r"- alert: (\w+)\n(.*?)(?=\n +- alert: |\Z)", rules, flags=re.DOTALL)
    assert len(alerts) > 10
    page = (DOCS / "how-to/monitor.md").read_text(encoding="utf-8")
    for name, rule in alerts:
        assert "action:" in rule, name
        assert "severity:" in rule, name
        assert name in page
    assert set(re.findall(r"Tasktrail[A-Z]\w+", page)) == {name for name, _ in alerts}


def test_a_name_that_no_metric_has_is_found(families: dict[str, Metric]) -> None:
    assert unknown("rate(tasktrail_taks_total[5m])", families) == {"tasktrail_taks_total"}


def test_the_reference_names_all_metrics_and_no_other(families: dict[str, Metric]) -> None:
    page = (DOCS / "reference/metrics.md").read_text(encoding="utf-8")
    named = {base(name, families) for name in re.findall(r"`(tasktrail_[a-z_]+)`", page)}
    assert named == {name for name in families if name.startswith("tasktrail_")}


@pytest.mark.skipif(shutil.which("promtool") is None, reason="promtool is not installed")
@pytest.mark.parametrize("command", [["check", "rules", ALERTS], ["test", "rules", PLAYED]])
def test_promtool_takes_the_rules_and_they_fire_when_they_should(command: list[str | Path]) -> None:
    checked = subprocess.run(["promtool", *command], capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout + checked.stderr
