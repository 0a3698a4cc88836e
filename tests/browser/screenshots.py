"""Pictures of the page for the docs: real tasks on real files, at three widths. `make screenshots` runs it."""

import os
import shutil
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from browsing import Service, Visit, start_browser
from PIL import Image
from playwright.sync_api import Page, expect, sync_playwright

from tasktrail import Client
from tasktrail.demo.samples import BUNNY, Sample, fetch, repeat
from tasktrail.demo.story import OTHERS
from tasktrail.events import Progressed

ROOT = Path(__file__).parents[2]
PICTURES = ROOT / "docs" / "images"
SAMPLES = ROOT / ".demo" / "samples"
MOST = 150_000
"""Bytes of a picture, because the repository keeps it for ever."""
WIDTHS = {360: 780, 1280: 800, 2560: 1200}
"""Width → height of the window."""
COLOURS = 256


def jobs(tasks: Client, folder: Path, files: dict[Sample, Path]) -> int:
    """Create tasks of all types, completed, failed, running and waiting. Return the running one."""
    broken = folder / "holiday.jpg"
    broken.write_text("this is no picture\n")
    small = [
        tasks.create_task(kind, files[sample], folder / name, options=options, label="demo", batch="holiday", user_id=7)
        for kind, sample, name, options in OTHERS
    ]
    small.append(
        tasks.create_task(
            "image_thumbnail", broken, folder / "holiday-small.jpg", label="import", batch="holiday", user_id=3
        )
    )
    for task_id in small:
        tasks.wait(task_id, timeout=300)
    film = folder / "bunny-long.mp4"
    repeat(files[BUNNY], film, 12)
    running = tasks.create_task(
        "video_convert",
        film,
        folder / "bunny-540p.mp4",
        options={"height": 540, "segment_seconds": 5, "preset": "medium"},
        priority=5,
        user_id=7,
        reason="for the web site",
    )
    for size in (320, 640, 1280):
        tasks.create_task(
            "video_convert",
            film,
            folder / f"bunny-{size}.webm",
            options={"width": size, "video_codec": "vp9"},
            label="archive",
            batch="films for the web",
            user_id=3,
            depends_on=[running] if size == 1280 else [],
        )
    tasks.add_schedule(
        "nightly",
        {"type": "video_preview", "input_file": str(film), "output_file": str(folder / "sheet-{fire_time}.jpg")},
        cron="30 2 * * *",
        timezone="Europe/Berlin",
    )
    tasks.set_limits(types={"video_convert": 1}, reason="one film at a time while people work")
    for record in tasks.follow():
        event = record.event
        if record.task_id == running and isinstance(event, Progressed) and event.progress > 30:
            break
    return running


@contextmanager
def place() -> Iterator[Path]:
    """A folder for a while, if possible with a name that a picture may show."""
    named = Path("/srv/media")
    if named.exists() or not os.access(named.parent, os.W_OK):
        with tempfile.TemporaryDirectory() as scratch:
            yield Path(scratch)
        return
    named.mkdir()
    try:
        yield named
    finally:
        shutil.rmtree(named)


@contextmanager
def furnished() -> Iterator[tuple[Service, int]]:
    """A service at work."""
    with place() as scratch:
        folder = scratch / "films"
        folder.mkdir()
        service = Service(scratch / "service", "workers = 2\n")
        try:
            found = fetch(list({BUNNY, *(sample for _, sample, _, _ in OTHERS)}), SAMPLES)
            # No picture should show the path of this checkout.
            files = {sample: Path(shutil.copy(path, folder)) for sample, path in found.items()}
            with service.client() as tasks:
                yield service, jobs(tasks, folder, files)
        finally:
            service.stop()


def take(page: Page, name: str) -> None:
    """Save the window's content, in few colours."""
    path = PICTURES / f"{name}.png"
    for image in page.locator("img").all():
        expect(image).to_have_js_property(name="complete", value=True, timeout=30_000)
    page.screenshot(path=path)
    with Image.open(path) as picture:
        few = picture.convert("RGB").quantize(COLOURS, Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    few.save(path, optimize=True)
    size = path.stat().st_size
    print(f"{path.relative_to(ROOT)}: {size:,} bytes")
    if size > MOST:
        raise SystemExit(f"{path} has {size:,} bytes; at most {MOST:,} are kept")


def main() -> None:
    """Take all pictures."""
    PICTURES.mkdir(exist_ok=True)
    with furnished() as (service, running), sync_playwright() as playwright:
        browser = start_browser(playwright.chromium)
        context = browser.new_context()
        visit = Visit(context, service)
        visit.log_in("owner", None)
        looks = {
            "now": "/",
            "task": f"/tasks/{running}",
            "submit": "/submit/video_convert",
            "past": "/?as_of=30",
            "batches": "/batches",
        }
        for name, address in looks.items():
            page = visit.go(address)
            for width, height in WIDTHS.items() if name == "now" else [(1280, WIDTHS[1280])]:
                page.set_viewport_size({"width": width, "height": height})
                take(page, f"{name}-{width}")
        page = visit.go("/")
        page.emulate_media(color_scheme="dark")
        page.set_viewport_size({"width": 1280, "height": WIDTHS[1280]})
        take(page, "now-dark-1280")
        browser.close()
        if faults := visit.faults():
            sys.exit("\n".join(faults))


if __name__ == "__main__":
    main()
