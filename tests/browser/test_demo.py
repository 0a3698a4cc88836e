"""The demo ends at a page with its tasks."""

import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from playwright.sync_api import expect

if TYPE_CHECKING:
    from playwright.sync_api import Browser

pytestmark = [pytest.mark.slow, pytest.mark.browser]
KEPT = Path(__file__).parents[2] / ".demo" / "samples"


@pytest.mark.timeout(600)
def test_the_demo_ends_by_printing_the_address_of_a_page_with_its_tasks(browser: "Browser", tmp_path: Path) -> None:
    work = tmp_path / "work"
    if KEPT.exists():  # `make demo` has fetched them
        shutil.copytree(KEPT, work / "samples")
    command = [sys.executable, "-m", "tasktrail", "demo", "--keep", "--work", str(work)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as demo:
        assert demo.stdout
        printed = []
        for line in demo.stdout:
            printed.append(line)
            if found := re.search(r"The page .* until Ctrl-C: (http://\S+)", line):
                break
        else:
            raise AssertionError("".join(printed))
        page = browser.new_page()
        page.goto(found[1])
        expect(page.get_by_role("heading", level=1)).to_have_text("Now")
        page.get_by_role("link", name="Tasks", exact=True).click()
        for name in ("video_convert", "model_preview", "document_preview"):
            expect(page.get_by_role("main")).to_contain_text(name)
        page.close()
        demo.send_signal(signal.SIGINT)
        assert "Stop  in good order" in demo.stdout.read()
        assert demo.wait(60) == 0
