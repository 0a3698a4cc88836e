"""Submitting, schedules, limits and pauses, as a user does it who sees only the page."""

from collections.abc import Callable

import pytest
from browsing import Service, Visit
from playwright.sync_api import Page, expect

pytestmark = [pytest.mark.slow, pytest.mark.browser]
Come = Callable[..., Visit]


def said(page: Page, text: str) -> None:
    """Check the page's message about the last action."""
    expect(page.get_by_role("status").filter(has_text=text)).to_be_visible()


def test_a_type_is_chosen_and_its_task_submitted(service: Service, visit: Come) -> None:
    page = visit(service).go("/submit")
    card = page.get_by_role("listitem").filter(has_text="Print nothing, with options of every kind.")
    card.get_by_role("link", name="print").click()
    page.get_by_label("Title").fill("A poster")
    page.get_by_label("Copies").fill("3")
    page.get_by_label("Paper").select_option("letter")
    page.get_by_label("Colours").fill("cyan\nyellow")
    page.get_by_label("Marks").fill("corner=4")
    page.get_by_label("Width").fill("2")
    page.get_by_label("Priority").fill("7")
    page.get_by_text("More about retries").click()
    page.get_by_label("Max retries").fill("1")
    page.get_by_label("Reason").fill("for the wall")
    page.get_by_role("button", name="Submit").click()
    said(page, "Task 1 is in the log.")
    with service.client() as tasks:
        created = tasks.events(1)[0]
        task = tasks.wait(1, timeout=30)
    assert (created.actor, created.reason) == ("http", "for the wall")
    assert (task.status, task.priority, task.max_retries) == ("completed", 7, 1)
    assert task.options == {
        "title": "A poster",
        "copies": 3,
        "paper": "letter",
        "colours": ["cyan", "yellow"],
        "marks": {"corner": 4},
        "border": {"width": 2},
    }


@pytest.mark.parametrize("script", [True, False], ids=["script", "no-script"])
def test_a_button_that_is_pressed_twice_creates_one_task(service: Service, visit: Come, *, script: bool) -> None:
    page = visit(service, script=script).go("/submit/print")
    page.get_by_label("Title").fill("A poster")
    page.get_by_role("button", name="Submit").dblclick()
    expect(page).to_have_url(f"{service.address}/tasks/1")
    with service.client() as tasks:
        assert tasks.list_tasks()[1] == 1


@pytest.mark.parametrize("script", [True, False], ids=["script", "no-script"])
def test_errors_stand_beside_their_fields_and_what_was_typed_stays(
    service: Service, visit: Come, *, script: bool
) -> None:
    one = visit(service, script=script)
    one.expect("status of 400")
    page = one.go("/submit/print")
    page.get_by_text("More about retries").click()
    wrong = {
        "Title": ("", "title has to be given"),
        "Copies": ("many", "copies has to be a whole number, not 'many'"),
        "Width": ("51", "border.width has to be a whole number, at most 50"),
        "Retry backoff": ("0", "retry_backoff has to be a number, at least 1"),
    }
    for name, (typed, _) in wrong.items():
        page.get_by_label(name).fill(typed)
    page.get_by_label("Reason").fill("to try it")
    page.get_by_role("button", name="Submit").click()
    alert = page.get_by_role("alert")
    for name, (typed, error) in wrong.items():
        expect(page.get_by_label(name)).to_have_value(typed)
        expect(page.get_by_label(name)).to_be_visible()
        expect(page.get_by_text(error, exact=True)).to_be_visible()
        expect(alert).to_contain_text(f"{name}: {error}")
    expect(page.get_by_label("Reason")).to_have_value("to try it")
    alert.get_by_role("link", name="Copies").click()
    expect(page.get_by_label("Copies")).to_be_in_viewport()
    with service.client() as tasks:
        assert tasks.list_tasks() == ([], 0)


def test_a_refusal_of_the_type_itself_finds_its_field(service: Service, visit: Come) -> None:
    one = visit(service)
    one.expect("status of 400")
    page = one.go("/submit/print")
    page.get_by_label("Title").fill("A poster")
    page.get_by_label("Copies").fill("2")
    page.get_by_label("Both sides").uncheck()
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_label("Copies")).to_have_accessible_description(
        "option copies of print: copies: more than one needs both_sides How many. 1 to 100."
    )
    expect(page.get_by_label("Both sides")).not_to_be_checked()


def test_a_schedule_is_added_seen_and_removed(service: Service, visit: Come) -> None:
    one = visit(service)
    page = one.go("/schedules")
    expect(page.get_by_text("There are no schedules.")).to_be_visible()
    page.get_by_role("link", name="print").click()
    page.get_by_label("Schedule").fill("nightly")
    page.get_by_label("Cron").fill("30 25 * * *")
    page.get_by_label("Title").fill("News")
    one.expect("status of 400")
    page.get_by_role("button", name="Add the schedule").click()
    expect(page.get_by_role("alert")).to_contain_text("Cron: '30 25 * * *' is no cron expression")
    page.get_by_label("Cron").fill("30 2 * * *")
    page.get_by_label("Timezone").fill("Europe/Berlin")
    page.get_by_role("button", name="Add the schedule").click()
    said(page, "The schedule nightly is added")
    row = page.get_by_role("row").filter(has_text="nightly")
    expect(row).to_contain_text("30 2 * * * in Europe/Berlin")
    with service.client() as tasks:
        (board,) = tasks.schedules()
    assert board.next_at is not None
    expect(row.get_by_role("time").first).to_have_attribute(
        "datetime", board.next_at.strftime("%Y-%m-%dT%H:%M:%S.000Z")
    )
    row.get_by_text("Remove").first.click()
    row.get_by_label("Reason").fill("no more news")
    row.get_by_role("button", name="Remove").click()
    said(page, "The schedule nightly has ended")
    with service.client() as tasks:
        assert tasks.schedules() == []
        *_, last = tasks.log()
    assert last.reason == "no more news"


def test_limits_are_changed_with_a_reason_and_reset(service: Service, visit: Come) -> None:
    one = visit(service)
    page = one.go("/limits")
    row = page.get_by_role("row").filter(has_text="max_memory")
    expect(row).to_contain_text("no limit")
    expect(row).to_contain_text("default")
    page.get_by_text("Change the limits").click()
    page.get_by_label("Max memory").fill("lots")
    page.get_by_label("Types").fill("print=1")
    page.get_by_label("Reason").last.fill("backup runs")
    one.expect("status of 400")
    page.get_by_role("button", name="Change").click()
    expect(page.get_by_role("alert")).to_contain_text("max_memory has to be a size such as 4GiB, not 'lots'")
    page.get_by_label("Max memory").fill("4GiB")
    page.get_by_role("button", name="Change").click()
    said(page, "The limits are changed")
    expect(row).to_contain_text("4.0 GiB")
    expect(row).to_contain_text("http")
    expect(row).to_contain_text("backup runs")
    expect(page.get_by_role("row").filter(has_text="types: print")).to_contain_text("1")
    page.get_by_text("Reset").first.click()
    page.get_by_role("button", name="Reset").click()
    said(page, "The configuration holds again")
    expect(row).to_contain_text("no limit")


def test_the_queue_is_paused_drained_and_resumed(service: Service, visit: Come) -> None:
    page = visit(service).go("/limits")
    page.get_by_text("Pause or drain").click()
    page.get_by_label("Type", exact=True).select_option("print")
    page.get_by_label("Reason").first.fill("paper is out")
    page.get_by_role("button", name="Pause", exact=True).click()
    said(page, "The type print is paused")
    row = page.get_by_role("row").filter(has_text="type print")
    expect(row).to_contain_text("paper is out")
    page.get_by_text("Pause or drain").click()
    page.get_by_role("button", name="Drain everything").click()
    said(page, "The queue is being drained")
    expect(page.get_by_role("row").filter(has_text="everything")).to_contain_text("drain")
    page.get_by_role("button", name="Resume everything").click()
    said(page, "The queue goes on")
    page.get_by_role("button", name="Resume type print").click()
    said(page, "The type print goes on")
    expect(page.get_by_text("Nothing is paused.")).to_be_visible()


def test_the_past_shows_what_was_ordered_then_and_no_forms(service: Service, visit: Come) -> None:
    one = visit(service)
    with service.client() as tasks:
        tasks.add_schedule("hourly", {"type": "print", "options": {"title": "x"}}, every=3600)
        tasks.set_limits(max_concurrent=7, reason="then")
        then = tasks.pause(type="print").position
        tasks.resume(type="print")
        tasks.set_limits(reset=True)
        tasks.remove_schedule("hourly")
    page = one.go(f"/limits?as_of={then}")
    expect(page.get_by_role("row").filter(has_text="max_concurrent")).to_contain_text("then")
    expect(page.get_by_role("row").filter(has_text="type print")).to_contain_text("paused")
    assert page.locator("main form").count() == 0
    page.get_by_role("link", name="Schedules").click()
    expect(page.get_by_role("row").filter(has_text="hourly")).to_contain_text("every 1h 00m")
    assert page.locator("main form").count() == 0
    page.get_by_role("link", name="Submit").click()
    page.get_by_role("link", name="print").click()
    expect(page.get_by_text("nothing can be submitted there")).to_be_visible()
    assert page.locator("main form").count() == 0
