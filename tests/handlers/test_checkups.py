"""The families' diagnoses for `doctor` on a machine that lacks something."""

from pathlib import Path

import pytest

from tasktrail.handlers import Diagnosis
from tasktrail.handlers.document import checkup as document
from tasktrail.handlers.image import checkup as image
from tasktrail.handlers.video import checkup as video
from tasktrail.handlers.video.program import Program


def weak(diagnoses: list[Diagnosis]) -> list[str]:
    assert all(diagnosis.remedy for diagnosis in diagnoses if diagnosis.level != "ok")
    return [f"{diagnosis.name}: {diagnosis.message}" for diagnosis in diagnoses if diagnosis.level != "ok"]


def test_a_whole_machine_lacks_nothing() -> None:
    assert weak([*image.checkup(), *video.checkup()]) == []


def test_formats_that_the_build_lacks_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(image, "READ_FORMATS", ("PNG", "XYZ"))
    (line,) = weak(list(image.checkup()))
    assert line.endswith("; without reading XYZ")


def test_encoders_that_the_build_lacks_are_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "VIDEO_ENCODERS", {"h264": "libx264", "xyz": "libxyz"})
    (line,) = weak(list(video.checkup()))
    assert line.endswith("; without encoder libxyz")


def test_a_machine_without_libreoffice_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "find_libreoffice", lambda: None)
    monkeypatch.setattr(document, "font_file", lambda _face: Path("/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf"))
    (line,) = weak(list(document.checkup()))
    assert line.startswith("office: LibreOffice is not there")


def test_a_machine_without_fonts_is_told_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "find_libreoffice", lambda: Path("/usr/bin/soffice"))
    monkeypatch.setattr(document, "font_file", lambda _face: None)
    (line,) = weak(list(document.checkup()))
    assert line.startswith("fonts: no font was found that text documents and burned subtitles are drawn with")


def test_the_font_that_text_is_drawn_with_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(document, "font_file", lambda _face: Path("/usr/share/fonts/truetype/dejavu/DejaVuSans.ttf"))
    (told,) = [diagnosis.message for diagnosis in document.checkup() if diagnosis.name == "fonts"]
    assert told.endswith(" are drawn with /usr/share/fonts/truetype/dejavu/DejaVuSans.ttf")


def test_an_ffmpeg_that_cannot_be_used_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "find_program", lambda: Path("/usr/bin/ffmpeg"))
    monkeypatch.setattr(
        video, "examine_program", lambda path: Program(path=path, trouble="version 4.0 is older than 5.1")
    )
    (line,) = weak(list(video.checkup()))
    assert line == "ffmpeg: /usr/bin/ffmpeg: version 4.0 is older than 5.1"


def test_a_machine_without_ffmpeg_is_no_worse_for_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(video, "find_program", lambda: None)
    assert weak(list(video.checkup())) == []
