"""Live changes while somebody looks: without reloading the page, and even if the service dies."""

import re
from collections.abc import Callable

import pytest
from browsing import Service, Visit
from playwright.sync_api import Page, expect

pytestmark = [pytest.mark.slow, pytest.mark.browser]
Come = Callable[..., Visit]
_NOTES_LOSSES = """addEventListener("DOMContentLoaded", () => {
    const failures = document.getElementById("failures");
    document.lost = [];
    if (!failures) return;
    new MutationObserver((changes) => {
        for (const one of changes.flatMap((change) => [...change.removedNodes])) {
            if (one.nodeName === "TABLE") document.lost.push(one.innerText);
        }
    }).observe(failures, { childList: true });
});"""
_GONE = "ERR_CONNECTION_REFUSED|ERR_INCOMPLETE_CHUNKED_ENCODING|ERR_CONNECTION_RESET|ERR_EMPTY_RESPONSE"


def mark(page: Page) -> None:
    """Leave something in the page that a reload removes."""
    page.evaluate("document.seenBefore = true")


def still_there(page: Page) -> bool:
    """Return whether it is still the marked page."""
    return bool(page.evaluate("document.seenBefore === true"))


def test_a_task_is_watched_from_submit_to_end_on_one_page(service: Service, visit: Come) -> None:
    words = service.folder / "words"
    words.touch()
    page = visit(service).go("/submit/staged")
    page.get_by_label("Words").fill(str(words))
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Task 1 running")
    mark(page)
    with words.open("a") as told:
        for percent, line in ((10, "primer"), (55, "second coat"), (90, "varnish")):
            print(f"{percent} {line}", file=told, flush=True)
            expect(page.get_by_role("progressbar", name="Progress of task 1")).to_have_attribute(
                "value", f"{percent}.0"
            )
            expect(page.get_by_role("region", name="The task")).to_contain_text(line)
        expect(page.get_by_role("region", name="Attempts", exact=True)).to_contain_text("told: 90 varnish")
        print("end", file=told, flush=True)
    expect(page.get_by_role("heading", level=1)).to_contain_text("Task 1 completed")
    expect(page.get_by_role("region", name="Story")).to_contain_text("completed")
    assert still_there(page)


def test_now_follows_what_runs_and_what_fails(service: Service, visit: Come) -> None:
    page = visit(service).go("/")
    expect(page.get_by_role("region", name="Running")).to_contain_text("Nothing runs.")
    mark(page)
    ran, fails = service.staged(max_retries=0), service.staged(max_retries=0)
    ran.tell("25 sanding")
    row = page.get_by_role("region", name="Running").get_by_role("row").filter(has_text=f"#{ran.id}")
    expect(row).to_contain_text("sanding")
    fails.tell("fail the wood is wet")
    expect(page.get_by_role("region", name="Last failures")).to_contain_text("the wood is wet")
    ran.tell("end")
    expect(page.get_by_role("link", name="1 completed")).to_be_visible()
    assert still_there(page)


def test_what_is_being_read_stays_while_the_page_changes(service: Service, visit: Come) -> None:
    fails = service.staged(max_retries=1)
    fails.tell("fail the wood is wet")
    page = visit(service).go("/")
    button = page.get_by_role("button", name=f"Retry task {fails.id}")
    button.focus()
    ran = service.staged()
    for percent in (10, 20, 30):
        ran.tell(f"{percent} at work")
        progress = page.get_by_role("progressbar", name=f"Progress of task {ran.id}")
        expect(progress).to_have_attribute("value", f"{percent}.0")
    expect(button).to_be_focused()


def test_the_focus_stays_on_its_batch_and_status_when_others_come(service: Service, visit: Come) -> None:
    service.staged(batch="older").tell("10 at work")
    page = visit(service).go("/batches")
    with service.client() as tasks:
        for name, batch, shown in (("running 1", "older", "pending 1"), ("older", "newer", "newer")):
            link = page.get_by_role("link", name=name, exact=True)
            link.focus()
            tasks.create_task("print", options={"title": "Card"}, batch=batch, held=True)
            expect(page.get_by_role("link", name=shown, exact=True).first).to_be_visible()
            expect(link).to_be_focused()


def test_a_page_never_goes_back_to_what_another_one_has_seen(service: Service, visit: Come) -> None:
    other, one = visit(service), visit(service)
    expect(other.go("/").get_by_role("status")).to_have_text("live")
    one.page.add_init_script(_NOTES_LOSSES)
    fails = service.staged(max_retries=1)
    fails.tell("fail the wood is wet")
    with service.client() as tasks:
        tasks.wait(fails.id, timeout=30)
    page = one.go("/")
    expect(page.get_by_role("status")).to_have_text("live")
    ran = service.staged()
    ran.tell("10 at work")
    expect(page.get_by_role("region", name="Running")).to_contain_text("at work")
    assert page.evaluate("document.lost") == []


def test_a_form_that_was_opened_stays_open_when_others_go(service: Service, visit: Come) -> None:
    with service.client() as tasks:
        tasks.pause()
    waits = service.staged()
    page = visit(service).go(f"/tasks/{waits.id}")
    form = page.locator("details.confirm").filter(has_text="Cancel the task")
    form.locator("summary").click()
    reason = form.get_by_label("Reason")
    reason.fill("the wood is wet")
    with service.client() as tasks:
        tasks.resume()
    expect(page.get_by_role("heading", level=1)).to_contain_text("running")
    expect(page.locator("summary", has_text="Start now")).to_have_count(0)
    expect(reason).to_be_focused()
    expect(reason).to_have_value("the wood is wet")


@pytest.mark.parametrize("ahead", [-7200, 7200])
def test_ages_are_right_where_the_clock_of_the_browser_is_wrong(service: Service, visit: Come, ahead: int) -> None:
    service.staged().tell("20 under way")
    one = visit(service)
    one.page.add_init_script(f"const right = Date.now; Date.now = () => right() + {ahead * 1000};")
    page = one.go("/")
    expect(page.get_by_role("region", name="Running")).to_contain_text("under way")
    expect(page.get_by_role("status")).to_have_text("live")
    page.evaluate("keepAges()")
    shown = page.locator("time[data-relative]").all_inner_texts()
    assert shown
    assert all(re.fullmatch(r"\d+ s ago", text) for text in shown), shown


@pytest.mark.parametrize("how", ["kill", "stop"])
def test_a_page_connects_again_after_the_service_was_started_again(service: Service, visit: Come, how: str) -> None:
    one = visit(service)
    one.expect(_GONE)
    ran = service.staged()
    ran.tell("20 before")
    page = one.go("/")
    expect(page.get_by_role("region", name="Running")).to_contain_text("before")
    mark(page)
    state = page.get_by_role("status")
    expect(state).to_have_text("live")
    getattr(service, how)()
    expect(state).to_contain_text("connecting again")
    service.start()
    expect(state).to_have_text("live")
    ran.tell("60 after")
    expect(page.get_by_role("region", name="Running")).to_contain_text("after")
    assert still_there(page)


def test_a_page_whose_token_is_revoked_says_so_and_asks_no_more(service: Service, visit: Come) -> None:
    reader = visit(service, "reader")
    reader.expect("status of 401|ERR_INCOMPLETE_CHUNKED_ENCODING")
    page = reader.go("/")
    state = page.locator("[data-live-state]")
    expect(state).to_have_text("live")
    with service.client() as tasks:
        tasks.revoke_token(next(one.token for one in tasks.tokens() if one.token.startswith("reader-")))
    expect(state).to_have_text("not live: log in again")
    page.get_by_role("link", name="Tasks", exact=True).click()
    expect(page.get_by_label("Token")).to_be_visible()


def test_a_form_sent_after_the_session_leads_to_the_login_and_back(service: Service, visit: Come) -> None:
    page = visit(service).go("/submit/print")
    page.get_by_label("Title").fill("A poster")
    elsewhere = page.context.new_page()
    elsewhere.goto(service.address)
    elsewhere.get_by_role("button", name="Log out").click()
    expect(elsewhere.get_by_label("Token")).to_be_visible()
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_role("alert")).to_contain_text("Nothing was done")
    page.get_by_label("Token").fill(service.secret())
    page.get_by_role("button", name="Log in").click()
    expect(page.get_by_label("Title")).to_be_visible()
    with service.client() as tasks:
        assert tasks.list_tasks()[1] == 0


def test_two_sessions_see_the_same_and_each_may_do_what_its_role_says(service: Service, visit: Come) -> None:
    fails = service.staged(max_retries=1)
    fails.tell("fail the wood is wet")
    with service.client() as tasks:
        tasks.wait(fails.id, timeout=30)
    operator, reader = visit(service, "operator"), visit(service, "reader")
    theirs, mine = operator.go("/"), reader.go("/")
    for page in (theirs, mine):
        expect(page.get_by_role("region", name="Last failures")).to_contain_text("the wood is wet")
    expect(mine.get_by_role("button", name="Retry")).to_have_count(0)
    expect(mine.get_by_role("link", name="Submit")).to_have_count(0)
    theirs.get_by_role("button", name=f"Retry task {fails.id}").click()
    expect(theirs.locator(".said.is-good")).to_be_visible()
    expect(mine.get_by_role("region", name="Last failures")).to_contain_text("the wood is wet")
    with service.client() as tasks:
        assert any(record.actor.startswith("operator-") for record in tasks.events(fails.id))
    reader.expect("status of 403")
    refused = reader.go("/submit/print")
    expect(refused.get_by_role("main")).to_contain_text("may not")
    limits = reader.go("/limits")
    expect(limits.get_by_role("button", name="Change")).to_have_count(0)
    theirs.get_by_role("button", name="Log out").click()
    expect(theirs.get_by_label("Token")).to_be_visible()  # going back while the page changes fails in the browser
    theirs.go_back()
    operator.expect("status of 401")
    expect(theirs.get_by_label("Token")).to_be_visible()


def test_somebody_who_is_bound_to_a_user_sees_and_submits_that_users_tasks_only(service: Service, visit: Come) -> None:
    others = service.staged(user_id=8)
    others.tell("30 not for you")
    page = visit(service, "submitter", user=7).go("/submit/print")
    expect(page.get_by_label("User id")).to_have_count(0)
    page.get_by_label("Title").fill("Mine")
    page.get_by_role("button", name="Submit").click()
    expect(page.get_by_role("heading", level=1)).to_contain_text("Task 2")
    with service.client() as tasks:
        assert tasks.get_task(2).user_id == 7
    page.get_by_role("link", name="Tasks", exact=True).click()
    expect(page.get_by_role("link", name="#2")).to_be_visible()
    expect(page.get_by_role("link", name=f"#{others.id}", exact=True)).to_have_count(0)
    page.get_by_role("link", name="Now").click()
    expect(page.get_by_role("main")).not_to_contain_text("not for you")
    expect(page.get_by_role("link", name="Limits")).to_have_count(0)


def test_many_tasks_can_be_changed_at_once_as_soon_as_there_is_one(service: Service, visit: Come) -> None:
    page = visit(service).go("/tasks")
    bulk = page.get_by_role("button", name="Retry…")
    expect(page.get_by_text("There are no tasks.")).to_be_visible()
    expect(bulk).to_be_hidden()
    mark(page)
    with service.client() as tasks:
        tasks.create_task("print", options={"title": "Card"}, held=True)
    expect(bulk).to_be_visible()
    assert still_there(page)
