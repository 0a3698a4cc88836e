"""Presets: named options, recorded with their meaning."""

from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from tasktrail.config.load import load_config
from tasktrail.events import CreateGraph, CreateTask, GraphTask
from tasktrail.events.errors import ConfigurationError, InvalidOptions
from tasktrail.handlers.contract import Job
from tasktrail.handlers.presets import BUILT_IN, Preset, Presets
from tasktrail.handlers.registry import Registry
from tasktrail.intake.examination import CommandIntake
from tasktrail.intake.paths import PathRules


@pytest.fixture
def examine(tmp_path: Path) -> Callable[[CreateTask], CreateTask]:
    (tmp_path / "a.mov").write_bytes(b"x")
    own = Preset(name="mine", type="video_convert", options={"crf": 30})
    registry = Registry.load(presets=[own])
    intake = CommandIntake(registry, PathRules(), max_user_level=10, has_tasks=lambda _name: False)

    def examine(task: CreateTask) -> CreateTask:
        source, output = str(tmp_path / "a.mov"), str(tmp_path / "b.mp4")
        found = intake.normalized(msgspec.structs.replace(task, input_file=source, output_file=output))
        assert isinstance(found, CreateTask)
        one = GraphTask(
            name="a",
            type=task.type,
            preset=task.preset,
            options=task.options,
            input_file=source,
            output_file=output,
        )
        graph = intake.normalized(CreateGraph(tasks=(one,)))
        assert isinstance(graph, CreateGraph)
        assert (graph.tasks[0].options, graph.tasks[0].preset) == (found.options, "")
        return found

    return examine


@pytest.mark.parametrize("preset", BUILT_IN, ids=lambda preset: preset.name)
def test_a_built_in_preset_means_options_that_its_type_takes_and_can_write(preset: Preset) -> None:
    task_type = Registry.load().get(preset.type)
    options = task_type.options_from(preset.options)
    if task_type.check is not None:
        task_type.check(
            Job(options=options, input_file=Path("/a.stl"), output_file=Path(f"/b{preset.output_suffix}"), input_size=1)
        )
    assert preset.summary.endswith(".")


def test_a_task_has_the_options_that_its_preset_meant_and_its_own_over_them(
    examine: Callable[[CreateTask], CreateTask],
) -> None:
    found = examine(CreateTask(type="video_convert", preset="web-720p", options={"crf": 18.0}))
    assert (found.options["max_height"], found.options["crf"], found.preset) == (720, 18, "")
    assert examine(CreateTask(type="video_convert", preset="mine")).options == {"crf": 30}


@pytest.mark.parametrize(
    ("name", "words"),
    [("web-720", "did you mean 'web-720p'"), ("web-image", "of image_convert, not of video_convert")],
)
def test_a_preset_that_is_not_there_or_of_another_type_is_refused(
    examine: Callable[[CreateTask], CreateTask], name: str, words: str
) -> None:
    with pytest.raises(InvalidOptions, match=words) as refused:
        examine(CreateTask(type="video_convert", preset=name))
    assert refused.value.field == "preset"


def test_the_configuration_adds_some_and_replaces_built_in_ones(tmp_path: Path) -> None:
    (tmp_path / "tasktrail.toml").write_text(
        '[[presets]]\nname = "web-720p"\ntype = "video_convert"\noptions = {crf = 40}\n'
        '[[presets]]\nname = "tiny"\ntype = "image_thumbnail"\noptions = {width = 16}\nsummary = "Tiny."\n'
    )
    presets = Presets(load_config(tmp_path, environment={}).presets)
    assert presets.get("web-720p").options == {"crf": 40}
    assert [preset.name for preset in presets.of("image_thumbnail")] == ["tiny", "web-thumbnail"]
    (tmp_path / "tasktrail.toml").write_text('[[presets]]\nname = "a"\n')
    with pytest.raises(ConfigurationError, match="presets"):
        load_config(tmp_path, environment={})
