"""Actions on tasks, on one and on many, and the page's messages about them."""

from collections.abc import Callable

import pytest
from browsing import Service, Visit
from playwright.sync_api import Page, expect

pytestmark = [pytest.mark.slow, pytest.mark.browser]
Come = Callable[..., Visit]


def confirm(page: Page, action: str, reason: str, button: str = "") -> None:
    """Open the question before an action, give a reason, and do it."""
    page.locator("summary").filter(has_text=action).first.click()
    form = page.locator("details[open] form").filter(has=page.get_by_role("button", name=button or action))
    form.get_by_label("Reason").fill(reason)
    form.get_by_role("button", name=button or action).click()


def heading(page: Page, text: str) -> None:
    """Return the page's main heading."""
    expect(page.get_by_role("heading", level=1)).to_contain_text(text)


@pytest.mark.parametrize("script", [True, False], ids=["script", "no-script"])
def test_a_waiting_task_is_held_changed_started_cancelled_and_retried(
    service: Service, visit: Come, *, script: bool
) -> None:
    with service.client() as tasks:
        tasks.pause(type="print")
        task_id = tasks.create_task("print", options={"title": "Card"})
    page = visit(service, script=script).go(f"/tasks/{task_id}")
    confirm(page, "Hold", "not yet")
    expect(page.get_by_role("group", name="Why it waits")).to_contain_text("held")
    page.locator("summary").filter(has_text="Change").click()
    page.get_by_label("Priority, 0 to 10").fill("9")
    page.locator("details[open] form").get_by_label("Reason").fill("first of all")
    page.locator("details[open]").get_by_role("button", name="Change").click()
    expect(page.get_by_role("status").filter(has_text="adjusted")).to_be_visible()
    confirm(page, "Cancel", "nobody wants it", "Cancel the task")
    heading(page, "cancelled")
    confirm(page, "Retry", "somebody does")
    heading(page, "retrying")
    with service.client() as tasks:
        tasks.resume(type="print")
        task = tasks.wait(task_id, timeout=30)
        reasons = [record.reason for record in (*tasks.events(task_id), *tasks.notes(task_id)) if record.reason]
    assert task.status == "completed"
    assert task.priority == 9
    assert sorted(reasons) == ["first of all", "nobody wants it", "not yet", "somebody does"]


def test_a_held_task_is_started(service: Service, visit: Come) -> None:
    with service.client() as tasks:
        task_id = tasks.create_task("print", options={"title": "Card"}, held=True)
    page = visit(service).go(f"/tasks/{task_id}")
    confirm(page, "Start now", "it is time")
    with service.client() as tasks:
        assert tasks.wait(task_id, timeout=30).status == "completed"


def test_a_running_task_is_cancelled(service: Service, visit: Come) -> None:
    ran = service.staged()
    ran.tell("30 sawing")
    page = visit(service).go(f"/tasks/{ran.id}")
    confirm(page, "Cancel", "wrong plank", "Cancel the task")
    heading(page, "cancelled")


def test_a_refusal_is_told_with_what_to_do(service: Service, visit: Come) -> None:
    with service.client() as tasks:
        task_id = tasks.create_task("print", options={"title": "Card"}, held=True)
    page = visit(service, script=False).go(f"/tasks/{task_id}")  # a live page would take the button away
    with service.client() as tasks:
        tasks.cancel_task(task_id)
    confirm(page, "Start now", "it is time")
    expect(page.get_by_role("status").filter(has_text="cancelled")).to_be_visible()


def test_all_tasks_that_pass_a_filter_are_retried_after_a_count_and_with_a_reason(
    service: Service, visit: Come
) -> None:
    failing = [service.staged(max_retries=0, label="import") for _ in range(3)]
    with service.client() as tasks:
        for one in failing:
            one.tell("fail no paper")
            tasks.wait(one.id, timeout=30)
        tasks.pause()
    page = visit(service).go("/tasks")
    page.get_by_role("navigation", name="Statuses").get_by_role("link", name="failed").click()
    page.get_by_label("Label").fill("import")
    page.get_by_role("button", name="Filter").click()
    expect(page.get_by_text("3 tasks pass")).to_be_visible()
    page.get_by_label("all 3 that pass").check()
    page.get_by_role("button", name="Retry…").click()
    heading(page, "Retry: 3 tasks?")
    page.get_by_label("also tasks whose retries are used up").check()
    page.get_by_label("Reason").fill("paper is here")
    page.get_by_role("button", name="Retry 3").click()
    heading(page, "done")
    expect(page.get_by_text("Refused")).to_be_visible()
    with service.client() as tasks:
        assert {tasks.get_task(one.id).status for one in failing} == {"retrying"}
        assert {tasks.events(one.id)[-1].reason for one in failing} == {"paper is here"}


def test_chosen_tasks_get_another_priority_and_are_cancelled(service: Service, visit: Come) -> None:
    with service.client() as tasks:
        tasks.pause()
        ids = [tasks.create_task("print", options={"title": "Card"}) for _ in range(4)]
    page = visit(service).go("/tasks")
    for task_id in ids[:2]:
        page.get_by_label(f"Choose task {task_id}").check()
    page.get_by_role("button", name="Change priority…").click()
    page.get_by_label("New priority").fill("7")
    page.get_by_label("Reason").fill("these first")
    page.get_by_role("button", name="Change priority of 2").click()
    heading(page, "done")
    page.get_by_role("link", name="To the list").click()
    page.get_by_label(f"Choose task {ids[3]}").check()
    page.get_by_role("button", name="Cancel…").click()
    page.get_by_label("Reason").fill("one too many")
    page.get_by_role("button", name="Cancel 1").click()
    heading(page, "done")
    with service.client() as tasks:
        found = [tasks.get_task(task_id) for task_id in ids]
    assert [task.priority for task in found] == [7, 7, 0, 0]
    assert [str(task.status) for task in found] == ["pending"] * 3 + ["cancelled"]


def test_a_search_a_filter_and_an_order_narrow_the_list(service: Service, visit: Come) -> None:
    with service.client() as tasks:
        tasks.pause()
        for number in range(1, 6):
            tasks.create_task("print", options={"title": "Card"}, label=f"batch-{number % 2}", priority=number)
    page = visit(service).go("/tasks")
    page.get_by_label("Label").fill("batch-1")
    page.get_by_role("button", name="Filter").click()
    page.get_by_role("link", name="Priority").click()
    rows = page.get_by_role("row")
    expect(page.get_by_text("3 tasks pass")).to_be_visible()
    first = rows.nth(1).inner_text()
    page.get_by_role("link", name="Priority").click()
    expect(rows.nth(1)).not_to_have_text(first)
    page.get_by_role("link", name="Clear").click()
    expect(page.locator("#total")).to_have_text("5 tasks")
    expect(page.get_by_label("all 5 tasks")).to_be_visible()


def test_the_log_is_verified_from_the_page(service: Service, visit: Come) -> None:
    with service.client() as tasks:
        tasks.wait(tasks.create_task("print", options={"title": "Card"}), timeout=30)
    page = visit(service).go("/log")
    expect(page.get_by_text("The log has not been verified")).to_be_visible()
    page.get_by_role("button", name="Verify now").click()
    expect(page.get_by_role("region", name="Verification")).to_contain_text("Verified up to position")
    expect(page.get_by_role("region", name="Records")).to_contain_text("completed")


def test_the_pictures_of_input_and_output_are_shown(house: Service, visit: Come) -> None:
    page = visit(house).go("/tasks/1")
    for side in ("input", "output"):
        picture = page.get_by_role("img", name=f"Picture of the {side}")
        expect(picture).to_be_visible()
        picture.scroll_into_view_if_needed()
        picture.evaluate("(one) => one.decode()")
