"""The common parts of all pages: their frame, the browser's permissions, their files, errors in words."""

import re

import httpx
import pytest

from tasktrail.api.service import TaskService
from tasktrail.web.page import HEADERS, NAVIGATION, Page


@pytest.mark.parametrize("path", [path for path, _name, _need in NAVIGATION])
def test_a_page_allows_nothing_inline_and_nothing_from_elsewhere(browser: httpx.Client, path: str) -> None:
    answer = browser.get(path)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == "text/html; charset=utf-8"
    assert {name: answer.headers[name] for name in HEADERS} == HEADERS
    assert not re.search(r"<script(?![^>]* src=\")|<style|\sstyle=|\son\w+=|javascript:", answer.text)
    assert re.findall(r'(?:src|href|action)="(?!/|#|\?)[^"]*"', answer.text) == []


def test_files_are_kept_for_ever_under_an_address_that_names_their_content(browser: httpx.Client) -> None:
    (address,) = re.findall(r'<link rel="stylesheet" href="([^"]+)"', browser.get("/").text)
    answer = browser.get(address)
    assert answer.headers["content-type"] == "text/css; charset=utf-8"
    assert answer.headers["cache-control"] == "public, max-age=31536000, immutable"
    assert answer.headers["content-encoding"] == "gzip"
    assert len(browser.get(address, headers={"accept-encoding": "identity"}).content) > answer.num_bytes_downloaded
    assert browser.get(address, headers={"if-none-match": answer.headers["etag"]}).status_code == 304


def test_a_file_under_an_old_address_is_not_kept(browser: httpx.Client) -> None:
    assert browser.get("/static/000000000000/page.css").headers["cache-control"] == "no-cache"


@pytest.mark.parametrize("path", ["/static/1/nothing.css", "/static/1/..%2fpage.py", "/static/1/base.html"])
def test_only_the_files_of_the_page_are_served(browser: httpx.Client, path: str) -> None:
    assert browser.get(path).status_code == 404


def test_an_error_of_a_page_is_a_page_that_says_what_to_do(browser: httpx.Client) -> None:
    answer = browser.get("/", params={"as_of": "<b>sometime</b>"})
    assert answer.status_code == 400
    assert {name: answer.headers[name] for name in HEADERS} == HEADERS
    assert "is not a position or a time" in answer.text
    assert "Write a position of the log" in answer.text
    assert "<b>sometime" not in answer.text


def test_a_parameter_that_no_page_knows_is_refused(browser: httpx.Client) -> None:
    answer = browser.get("/", params={"as_off": "3"})
    assert answer.status_code == 400
    assert "did you mean `as_of`?" in answer.text


def test_an_address_at_which_nothing_answers_is_a_page_for_people_and_a_problem_for_programs(
    browser: httpx.Client,
) -> None:
    page = browser.get("/nowhere")
    assert (page.status_code, page.headers["content-type"]) == (404, "text/html; charset=utf-8")
    assert "There is no page at /nowhere" in page.text
    problem = browser.get("/nowhere", headers={"accept": "*/*"})
    assert (problem.status_code, problem.headers["content-type"]) == (404, "application/problem+json")


def test_the_address_of_a_form_is_a_page_for_people_that_leads_back(browser: httpx.Client) -> None:
    page = browser.get("/limits/pause")
    assert (page.status_code, page.headers["content-type"]) == (405, "text/html; charset=utf-8")
    assert "There is no page at /limits/pause: it takes what a form sends" in page.text
    assert "Go back to the form" in page.text
    problem = browser.get("/limits/pause", headers={"accept": "*/*"})
    assert (problem.status_code, problem.headers["content-type"]) == (405, "application/problem+json")
    assert set(page.headers["allow"].split(", ")) == set(problem.headers["allow"].split(", "))


@pytest.mark.parametrize(
    ("method", "path", "given"),
    [
        ("GET", "/", {"as_of": "9" * 5000}),
        ("GET", "/tasks", {"as_of": "9" * 30}),
        ("GET", "/log", {"task": "9" * 5000}),
        ("GET", "/log", {"task": "0"}),
        ("GET", "/log", {"task": "x"}),
        ("POST", "/retry", {"task_id": "9" * 5000}),
        ("POST", "/retry", {"task_id": "x"}),
        ("POST", "/retry", {}),
    ],
)
def test_what_is_no_number_is_told_whatever_its_length(
    browser: httpx.Client, method: str, path: str, given: dict[str, str]
) -> None:
    answer = browser.get(path, params=given) if method == "GET" else browser.post(path, data=given or {"nothing": ""})
    assert answer.status_code == 400
    assert 'class="error-text"' in answer.text


@pytest.mark.parametrize("path", ["//elsewhere.example/x", "/%2felsewhere.example/x"])
def test_a_page_for_an_odd_address_has_no_link_that_leads_elsewhere(browser: httpx.Client, path: str) -> None:
    answer = browser.get(f"http://localhost{path}")
    assert answer.status_code == 404
    assert re.findall(r'(?:href|action|data-live)="//[^"]*"', answer.text) == []


@pytest.mark.parametrize("flash", ["x" * 5000, "\u6f22" * 5000, '% "' * 5000])
def test_what_a_page_is_told_fits_into_the_cookie_that_carries_it(flash: str) -> None:
    answer = Page.redirect(object.__new__(Page), "/", flash=flash)
    (cookie,) = answer.cookies
    assert 1000 < len(f"{cookie.key}={cookie.value}") < 4096  # browsers drop more than that


def test_what_is_not_seen_is_written_out_but_for_what_a_form_sends_back(
    browser: httpx.Client, service: TaskService
) -> None:
    evil = "\u202efdp.\x1b[31m\u200b"
    written = r"\u202efdp.\x1b[31m\u200b"
    task_id = service.create_task(type="saying", options={"error": evil}, label="\u202efdp", max_retries=0)
    assert service.wait(task_id, 10).status == "failed"
    for path in ("/", "/tasks", f"/tasks/{task_id}"):
        shown = browser.get(path).text
        assert written in shown, path
        assert not re.search("[\u202e\x1b\u200b]", shown), path
    shown = browser.get(f"/submit/saying?like={task_id}").text
    assert f'value="{evil}"' in shown, "the same task, not one with another text"


def test_scripts_and_emoji_keep_their_joiners(browser: httpx.Client) -> None:
    family = "\U0001f469\u200d\U0001f467 می\u200cخواهم"
    assert f"There is no page at /{family}" in browser.get(f"/{family}").text


def test_a_page_tells_what_to_do_on_a_page(browser: httpx.Client, service: TaskService) -> None:
    missing = browser.get("/tasks/999999").text
    assert 'href="/tasks">All tasks</a>' in missing
    assert "tasktrail list" not in missing
    nowhere = browser.get("/nowhere").text
    assert "openapi.json" not in nowhere
    assert "<h1>There is no such page</h1>" in nowhere
    assert "Correct it and try again." in browser.get("/tasks?status=odd").text
    assert "The foot of the page says where the log ends." in browser.get("/?as_of=999999999").text
    task_id = service.create_task(type="saying", options={"error": "no"}, max_retries=0)
    assert service.wait(task_id, 10).status == "failed"
    browser.post(f"/tasks/{task_id}/act", data={"action": "retry"})
    told = browser.get(f"/tasks/{task_id}").text
    assert "has used 0 of 0 retries. Tick the box of the form that forces the retry." in told
