"""A type whose packages are not installed is known; a command for it is refused with the packages to install."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tasktrail import TaskService
from tasktrail.config.settings import Config
from tasktrail.doctor.facts import Lack, collect_facts
from tasktrail.handlers.errors import PackageMissing

WITHIN = 20.0
MODULE = """
from tasktrail import Finished, TaskContext, handler
from tasktrail.handlers import Packages

@handler("paint", packages=Packages(modules=("no_such_brush", "paint_pot"), install="easel[oil]"))
def paint(context: TaskContext) -> Finished:
    '''Paint.'''
    import paint_pot
    return Finished()
"""
CONFIG = Config(handlers=("lacking_types",), workers=1)


@pytest.fixture
def site(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Make a folder that packages are imported from; it has one of the two that the type needs."""
    folder = tmp_path / "site"
    (folder / "paint_pot").mkdir(parents=True)
    (folder / "paint_pot" / "__init__.py").touch()
    (folder / "lacking_types.py").write_text(MODULE)
    monkeypatch.syspath_prepend(str(folder))
    monkeypatch.setenv("PYTHONPATH", f"{folder}{os.pathsep}{os.environ.get('PYTHONPATH', '')}")
    monkeypatch.delitem(sys.modules, "lacking_types", raising=False)
    monkeypatch.setattr("tasktrail.handlers.contract._found", set())
    return folder


def test_its_tasks_are_refused_with_what_to_install(site: Path, tmp_path: Path) -> None:
    with TaskService.open(tmp_path / "data", config=CONFIG) as tasks:
        with pytest.raises(PackageMissing, match=r"paint needs packages .* no_such_brush") as refused:
            tasks.create_task(type="paint")
        assert "easel[oil]" in refused.value.advice
        assert tasks.list_tasks() == ([], 0)

        (site / "no_such_brush").mkdir()  # installed meanwhile: the service need not be restarted
        assert tasks.wait(tasks.create_task(type="paint"), WITHIN).status == "completed"


def test_an_attempt_fails_by_name_when_they_have_gone_meanwhile(site: Path, tmp_path: Path) -> None:
    brush = site / "no_such_brush"
    brush.mkdir()
    with TaskService.open(tmp_path / "data", config=CONFIG) as tasks:
        task_id = tasks.create_task(type="paint", held=True)
        brush.rmdir()
        tasks.start_task(task_id)
        task = tasks.wait(task_id, WITHIN)

    assert (task.status, task.error_type) == ("failed", "PackageMissing")
    assert "no_such_brush" in task.error
    assert "easel[oil]" in task.error


@pytest.mark.usefixtures("site")
def test_types_and_doctor_tell_it(tmp_path: Path) -> None:
    (tmp_path / "tasktrail.toml").write_text('handlers = ["lacking_types"]\n')
    with TaskService.open(tmp_path / "data", config=CONFIG) as tasks:
        (told,) = [info for info in tasks.types() if info.name == "paint"]
    assert (told.missing, told.install) == (("no_such_brush",), "easel[oil]")

    command = [sys.executable, "-m", "tasktrail", "--data", str(tmp_path), "types", "paint"]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    assert "not installed: no_such_brush; install easel[oil]" in shown

    found = collect_facts(tmp_path / "data", CONFIG).lacking
    assert found == (Lack(types=("paint",), packages=("no_such_brush",), install="easel[oil]"),)
