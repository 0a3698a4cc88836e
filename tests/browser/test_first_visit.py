"""A first-time user finds the wanted answers on the page, by words and roles, without ids."""

from collections.abc import Callable
from datetime import datetime, time, timedelta
from pathlib import Path

import pytest
from browsing import Service, Visit
from histories import Journal
from PIL import Image
from playwright.sync_api import expect

from tasktrail.events.log.sqlite import SqliteEventLog
from tasktrail.events.reports import AttemptEnded, AttemptProgressed
from tasktrail.events.system_events import ServiceStarted

pytestmark = [pytest.mark.slow, pytest.mark.browser]
Come = Callable[..., Visit]


def write_yesterday(log_file: Path) -> None:
    """Write yesterday: a poster was being printed at noon, a book waited for it; both were done by three."""
    noon = datetime.combine(datetime.now().astimezone() - timedelta(days=1), time(12)).astimezone()
    log = SqliteEventLog(log_file, now=noon - timedelta(hours=2))
    journal = Journal(log, at=noon - timedelta(hours=2))
    journal.record(0, ServiceStarted(version="0", epoch=log.epoch, pid=1, host="here"))
    poster = journal.create("print", options={"title": "Poster"}, label="yesterday")
    book = journal.create("print", options={"title": "Book"}, depends_on=(poster,), label="yesterday")
    journal.start(poster)
    journal.send(AttemptProgressed(poster, 1, 62.5, "drying"))
    journal.at = noon + timedelta(hours=3)
    journal.send(AttemptEnded(poster, 1, "completed"))
    journal.start(book)
    journal.send(AttemptEnded(book, 1, "completed"))
    log.close()


@pytest.fixture
def service(service_of: Callable[[Callable[[Path], None]], Service]) -> Service:
    return service_of(lambda data: write_yesterday(data / "log.db"))


def test_a_stranger_finds_what_runs_why_one_waits_why_one_failed_and_what_was_yesterday_at_noon(
    service: Service, visit: Come
) -> None:
    ran = service.staged(estimated_time=600, max_retries=0)
    ran.tell("40 second coat of paint")
    with service.client() as tasks:
        waits = tasks.create_task("print", options={"title": "Card"}, depends_on=[ran.id])
    fails = service.staged(max_retries=1)
    fails.tell("fail the paper is torn")
    with service.client() as tasks:
        tasks.wait(fails.id, timeout=30)
    page = visit(service).go("/")

    # What runs, and its remaining time.
    running = page.get_by_role("region", name="Running").get_by_role("row").filter(has_text="staged")
    expect(running).to_contain_text("second coat of paint")
    expect(running).to_contain_text("40")
    expect(running).to_contain_text("about 6 min")

    # Why that task waits.
    page.get_by_role("link", name="pending").click()
    page.get_by_role("row").filter(has_text="print").get_by_role("link", name=f"#{waits}").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text(f"Task {waits}")
    expect(page.get_by_role("group", name="Why it waits")).to_contain_text(f"task {ran.id}")

    # Why this one has failed; and a retry.
    page.get_by_role("link", name="Now").click()
    failures = page.get_by_role("region", name="Last failures")
    expect(failures).to_contain_text("the paper is torn")
    failures.get_by_role("link", name=f"#{fails.id}").click()
    expect(page.get_by_role("group", name="Why it failed")).to_contain_text("the paper is torn")
    page.get_by_text("Retry", exact=True).first.click()
    page.get_by_label("Reason").fill("new paper")
    page.get_by_role("button", name="Retry").click()
    with service.client() as tasks:
        task = tasks.wait(fails.id, timeout=30)
        again = [record for record in tasks.events(fails.id) if record.reason == "new paper"]
    assert (task.life, [record.actor for record in again]) == (2, ["http"])

    # The state of yesterday at noon.
    page.get_by_role("link", name="Now").click()
    page.get_by_text("As of now").click()
    page.get_by_role("link", name="yesterday 12:00").click()
    expect(page.get_by_text("This is the past:")).to_be_visible()
    then = page.get_by_role("region", name="Running").get_by_role("row").filter(has_text="print")
    expect(then).to_contain_text("drying")
    expect(then).to_contain_text("62.5 %")
    expect(page.get_by_role("link", name="1 pending")).to_be_visible()
    then.get_by_role("link", name="#1").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("running")
    page.get_by_role("link", name="Back to now").first.click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("completed")


@pytest.mark.parametrize("script", [True, False])
def test_a_stranger_finds_what_has_changed_since_then_and_between_two_moments(
    service: Service, visit: Come, *, script: bool
) -> None:
    page = visit(service, script=script).go("/?as_of=yesterday+12:00")
    page.get_by_role("link", name="what changed since then").click()
    changes = page.get_by_role("region", name="The tasks before and after")
    poster = changes.get_by_role("row").filter(has_text="#1")
    expect(poster).to_contain_text("running")
    expect(poster).to_contain_text("completed")
    expect(changes.get_by_role("row").filter(has_text="#2")).to_contain_text("pending")
    poster.get_by_role("link", name="running").click()
    expect(page.get_by_text("This is the past:")).to_be_visible()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Task 1 running")

    page.get_by_role("link", name="Back to now").first.click()
    page.get_by_text("As of now").click()
    page.get_by_role("link", name="What changed between two moments").click()
    page.get_by_label("From", exact=True).fill("yesterday 9:00")
    page.get_by_label("To", exact=True).fill("yesterday 12:00")
    page.get_by_role("button", name="Compare").click()
    poster = changes.get_by_role("row").filter(has_text="#1")
    expect(poster).to_contain_text("not created yet")
    expect(poster).to_contain_text("running")
    poster.get_by_role("link", name="#1").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Task 1 running")


def test_a_stranger_takes_along_who_made_a_file_and_from_what(
    service_of: Callable[[Callable[[Path], None]], Service], visit: Come
) -> None:
    service = service_of(lambda _data: None)
    Image.new("RGB", (64, 48), "teal").save(service.folder / "in.png")
    with service.client() as tasks:
        made = tasks.create_task("image_thumbnail", service.folder / "in.png", service.folder / "small.jpg")
        assert tasks.wait(made, timeout=30).status == "completed"
    come = visit(service)
    files = come.go(f"/tasks/{made}").get_by_role("region", name="Files")
    expect(files).to_contain_text("No provenance: there is no key to sign with.")
    service.command("seal")
    page = come.go(f"/tasks/{made}")
    with page.expect_download() as found:
        page.get_by_role("link", name="provenance").click()
    assert found.value.suggested_filename == f"task-{made}.intoto.json"
    assert found.value.path().read_text(encoding="utf-8") == service.command("provenance", str(made), "--json").strip()
