"""What all pages have in common: their frame, what a browser may do with them, their files, errors in words."""

import re

import httpx
import pytest

from tasktrail.web.page import HEADERS, NAVIGATION


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
    assert "is no moment that is understood here" in answer.text
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
