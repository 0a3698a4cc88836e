"""The pages with forms, requested as by a browser without scripts."""

import re
from html import unescape
from pathlib import Path

import httpx
import pytest
from PIL import Image

from tasktrail.api.service import TaskService
from tasktrail.events.commands import CreateTask, SetLimits
from tasktrail.web.forms import described_fields


@pytest.fixture
def picture(tmp_path: Path) -> Path:
    path = tmp_path / "in.png"
    Image.new("RGB", (64, 48), "teal").save(path)
    return path


def sent(page: httpx.Response) -> dict[str, str]:
    """Return what a browser would send of the page's last form, untouched."""
    form = page.text.rpartition("<form ")[2].partition("</form>")[0]
    found: dict[str, str] = {}
    for control in re.finditer(r'<input (?:type="hidden" |id="[^"]*" )?[^>]*>', form):
        name, value = re.search(r'name="([^"]*)"', control[0]), re.search(r'value="([^"]*)"', control[0])
        if name and ('type="checkbox"' not in control[0] or "checked" in control[0]):
            found[name[1]] = unescape(value[1]) if value else ""
    for name, inside in re.findall(r'<select [^>]*name="([^"]*)"[^>]*>(.*?)</select>', form, re.DOTALL):
        (found[name],) = re.findall(r'<option value="([^"]*)" selected>', inside) or [""]
    for name, inside in re.findall(r'<textarea [^>]*name="([^"]*)"[^>]*>\n(.*?)</textarea>', form, re.DOTALL):
        found[name] = unescape(inside)
    return found


def errors(page: httpx.Response) -> dict[str, str]:
    """Return the errors beside their fields."""
    found = re.findall(r'<p class="field-error" id="field-([^"]*)-error">(.*?)</p>', page.text)
    return {name: unescape(text) for name, text in found}


def test_every_type_can_be_chosen(browser: httpx.Client, service: TaskService) -> None:
    listed = browser.get("/submit").text
    for info in service.types():
        assert f'href="/submit/{info.name}"' in listed
        form = browser.get(f"/submit/{info.name}")
        assert form.status_code == 200
        for option in info.options["$defs"][info.options["$ref"].rpartition("/")[2]]["properties"]:
            assert f'name="options.{option}"' in form.text


def test_every_field_of_a_new_task_can_be_given(browser: httpx.Client) -> None:
    form = sent(browser.get("/submit/image_thumbnail"))
    shown = {*form, *re.findall(r'name="([^"]*)"', browser.get("/submit/image_thumbnail").text)}
    assert {"input_file", "output_file", "reason", *described_fields(CreateTask)} <= shown


def test_an_untouched_form_records_only_what_was_filled_in(
    browser: httpx.Client, service: TaskService, picture: Path, tmp_path: Path
) -> None:
    form = sent(browser.get("/submit/image_thumbnail"))
    form |= {"input_file": str(picture), "output_file": str(tmp_path / "out.jpg"), "options.width": "32"}
    answer = browser.post("/submit/image_thumbnail", data={**form, "held": "true"})
    assert answer.status_code == 303
    task_id = int(answer.headers["location"].rpartition("/")[2])
    task = service.get_task(task_id)
    assert (task.options, task.held, task.max_retries) == ({"width": 32}, True, 3)
    again = sent(browser.get(f"/submit/image_thumbnail?like={task_id}"))
    assert {name: text for name, text in again.items() if form[name] != text} == {"command_id": again["command_id"]}


def test_what_programs_a_type_can_use_stands_in_one_line(browser: httpx.Client) -> None:
    for address in ("/submit", "/submit/video_convert"):
        assert re.search(r'<p class="hint">ffmpeg: [^<]*; quality by [^<]*</p>', browser.get(address).text)


def test_a_preset_fills_in_the_options_that_it_means(browser: httpx.Client, service: TaskService) -> None:
    plain = browser.get("/submit/video_convert")
    for preset in service.source.registry.presets.of("video_convert"):
        link = f"/submit/video_convert?preset={preset.name}"
        assert f'href="{link}"' in plain.text
        page = browser.get(link)
        assert (preset.summary in page.text, 'aria-current="true">' + preset.name in page.text) == (True, True)
        filled, untouched = sent(page), sent(plain)
        changed = {name: text for name, text in filled.items() if untouched[name] != text and name != "command_id"}
        assert changed == {f"options.{name}": str(value) for name, value in preset.options.items()}
    unknown, foreign = (browser.get(f"/submit/video_convert?preset={name}") for name in ("web-72p", "podcast"))
    assert (unknown.status_code, "did you mean &#39;web-720p&#39;" in unknown.text) == (400, True)
    assert (foreign.status_code, "is of audio_convert" in foreign.text) == (422, True)
    without = next(info.name for info in service.types() if not info.presets)
    assert 'aria-label="Presets"' not in browser.get(f"/submit/{without}").text


def test_a_form_that_is_sent_twice_creates_one_task(
    browser: httpx.Client, service: TaskService, picture: Path, tmp_path: Path
) -> None:
    form = sent(browser.get("/submit/image_thumbnail"))
    form |= {"input_file": str(picture), "output_file": str(tmp_path / "once.jpg"), "held": "true"}
    first, again = (browser.post("/submit/image_thumbnail", data=form) for _ in range(2))
    assert first.headers["location"] == again.headers["location"]
    other = browser.post("/submit/image_thumbnail", data={**form, "options.width": "32"})
    assert other.status_code == 409
    assert "This form was sent before, with other values" in other.text
    fresh = sent(other)
    assert fresh["command_id"] != form["command_id"]
    assert service.list_tasks()[0][0].id == int(first.headers["location"].rpartition("/")[2])


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        ({"options.width": "0"}, {"options-width": "width has to be a whole number, at least 1"}),
        ({"input_file": "in.png"}, {"input_file": "'in.png' is not an absolute path"}),
        ({"input_file": ""}, {"input_file": "<code>input_file</code> has to be given"}),
        ({"user_level": "99"}, {"user_level": "user_level is 99, and at most 10 is allowed here"}),
        ({"notify_email": "nobody"}, {"notify_email": "notify_email"}),
    ],
)
def test_a_refusal_stands_beside_its_field(
    browser: httpx.Client, picture: Path, tmp_path: Path, changes: dict[str, str], wrong: dict[str, str]
) -> None:
    form = sent(browser.get("/submit/image_thumbnail"))
    form |= {"input_file": str(picture), "output_file": str(tmp_path / "out.jpg"), **changes}
    answer = browser.post("/submit/image_thumbnail", data=form)
    assert answer.status_code == 400
    found = errors(answer)
    assert list(found) == list(wrong)
    assert all(found[name].startswith(text) for name, text in wrong.items())
    assert sent(answer) == form


@pytest.mark.parametrize(
    ("changes", "wrong"),
    [
        (
            {"output_file": "{folder}/out.jpg"},
            {"output_file": "Every run after the first would find its output already there"},
        ),
        ({"input_file": "in.png"}, {"input_file": "'in.png' is not an absolute path"}),
        ({"user_level": "99"}, {"user_level": "user_level is 99, and at most 10 is allowed here"}),
        ({"options.width": "0"}, {"options-width": "width has to be a whole number, at least 1"}),
        ({"cron": "never"}, {"cron": "'never'"}),
    ],
)
def test_a_refusal_of_a_schedule_stands_beside_the_field_of_its_task(
    browser: httpx.Client, picture: Path, tmp_path: Path, changes: dict[str, str], wrong: dict[str, str]
) -> None:
    form = sent(browser.get("/schedules/add/image_thumbnail"))
    output = str(tmp_path / "out-{fire_time}.jpg")
    form |= {"schedule": "nightly", "cron": "0 2 * * *", "input_file": str(picture), "output_file": output}
    form |= {field: value.replace("{folder}", str(tmp_path)) for field, value in changes.items()}
    answer = browser.post("/schedules/add/image_thumbnail", data=form)
    found = errors(answer)
    assert list(found) == list(wrong)
    assert all(found[name].startswith(text) for name, text in wrong.items())


def test_a_type_that_is_not_there_is_named_with_the_nearest(browser: httpx.Client) -> None:
    assert "did you mean &#39;image_thumbnail&#39;" in browser.get("/submit/image_thumbnial").text


def test_the_past_shows_no_form_and_takes_none(browser: httpx.Client, service: TaskService) -> None:
    service.set_limits(max_per_user=3)
    for path in ("/submit/image_thumbnail", "/schedules", "/schedules/add/image_thumbnail", "/limits"):
        assert 'method="post"' not in browser.get(path, params={"as_of": "1"}).text.partition("<main")[2]
    for path in ("/submit/image_thumbnail", "/schedules/add/image_thumbnail", "/schedules/remove", "/limits/pause"):
        refused = browser.post(path, params={"as_of": "1"}, data={"reason": "to change the past"})
        assert refused.status_code == 400
        assert "you can look at the past, but not change it" in refused.text


@pytest.mark.parametrize("name", [name for name in described_fields(SetLimits) if name != "reset"])
def test_every_limit_can_be_changed(browser: httpx.Client, name: str) -> None:
    assert f'name="{name}"' in browser.get("/limits").text


def test_what_is_left_empty_stays_as_it_is(browser: httpx.Client, service: TaskService) -> None:
    service.set_limits(reset=True, max_per_type=5, labels={"night": 2, "day": 3})
    answer = browser.post("/limits", data={"labels": "night=none", "max_per_user": "4", "reason": "so"})
    assert answer.status_code == 303
    holds = service.limits().limits
    assert (holds.max_per_type, holds.max_per_user, holds.labels) == (5, 4, {"day": 3})
    shown = browser.get("/limits").text
    assert re.search(r"http, .*?, position \d+: so", shown, re.DOTALL)
    assert ">100 %<" in shown, "max_cpu"
    assert browser.post("/limits", data={"max_per_user": ""}).status_code == 400
    service.set_limits(reset=True)


def test_an_earlier_moment_shows_the_orders_of_then(browser: httpx.Client, service: TaskService) -> None:
    service.set_limits(reset=True, max_per_label=8, reason="first")
    service.pause(type="image_thumbnail")
    then = service.pause(user_id=77, reason="for a while").position
    service.resume(user_id=77)
    service.resume(type="image_thumbnail")
    service.set_limits(reset=True)
    shown = browser.get("/limits", params={"as_of": then}).text
    assert "user 77" in shown
    assert "type image_<wbr>thumbnail" in shown
    assert '<th scope="col" class="num">Value</th>' in shown
    assert "for a while" in shown
    assert re.search(r"max_<wbr>per_<wbr>label</code></td>\s*<td[^>]*>8</td>", shown)
    assert "user 77" not in browser.get("/limits").text
    assert "user 77" not in browser.get("/limits", params={"as_of": then - 1}).text


def test_an_order_that_is_none_is_not_found(browser: httpx.Client) -> None:
    assert browser.post("/limits/explode", data={"pause.type": ""}).status_code == 404
