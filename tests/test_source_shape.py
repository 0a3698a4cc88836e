"""Structs keep annotations that msgspec can read, and tests have the same names in every process."""

import ast
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("actors", "events", "handlers", "projections", "tasktrail")


def sources(root: Path, *folders: str) -> Iterator[Path]:
    """Python files below the folders; the links inside tasktrail/ are not followed."""
    for folder in folders:
        for where, _, files in os.walk(root / folder):
            yield from (Path(where, file) for file in sorted(files) if file.endswith(".py"))


def structs_with_text_annotations(paths: list[Path]) -> list[str]:
    """Files that define a Struct, directly or through a base in another file, and postpone their annotations."""
    trees = {path: ast.parse(path.read_text(encoding="utf-8")) for path in paths}
    bases = {
        node.name: {ast.unparse(base).split(".")[-1].split("[")[0] for base in node.bases}
        for tree in trees.values()
        for node in ast.walk(tree)
        if isinstance(node, ast.ClassDef)
    }
    structs = {"Struct"}
    while more := {name for name, above in bases.items() if above & structs} - structs:
        structs |= more
    return [
        str(path)
        for path, tree in trees.items()
        if any(isinstance(node, ast.ImportFrom) and node.module == "__future__" for node in tree.body)
        and any(isinstance(node, ast.ClassDef) and node.name in structs for node in ast.walk(tree))
    ]


@pytest.mark.slow
def test_no_file_with_structs_postpones_its_annotations() -> None:
    assert structs_with_text_annotations(list(sources(ROOT, *ROOMS, "tests"))) == []


def test_postponed_annotations_are_found_through_a_base_in_another_file(tmp_path: Path) -> None:
    base, derived, free = tmp_path / "base.py", tmp_path / "derived.py", tmp_path / "free.py"
    base.write_text("import msgspec\nclass Base(msgspec.Struct): ...")
    derived.write_text("from __future__ import annotations\nfrom base import Base\nclass Derived(Base, tag='x'): ...")
    free.write_text("from __future__ import annotations\nclass Plain: ...")
    assert structs_with_text_annotations([base, derived, free]) == [str(derived)]


def ids_of_their_own(path: Path) -> list[str]:
    """Parametrized tests whose names differ from one process to the next; two that share the work then find no test."""
    return [
        f"{path}:{node.lineno}: {called}"
        for node in ast.walk(ast.parse(path.read_bytes()))
        if isinstance(node, ast.FunctionDef)
        for decorator in node.decorator_list
        for part in ast.walk(decorator)
        if isinstance(part, ast.Call) and isinstance(part.func, ast.Attribute)
        if (called := part.func.attr) in {"getpid", "getppid", "mkdtemp", "now", "random", "time", "uuid4"}
    ]


@pytest.mark.slow
def test_a_test_has_the_same_name_in_every_process() -> None:
    assert [line for path in sources(ROOT, "tests") for line in ids_of_their_own(path)] == []


def test_a_name_that_differs_is_found(tmp_path: Path) -> None:
    source = tmp_path / "test_it.py"
    source.write_text("@pytest.mark.parametrize('line', [f'pid {os.getpid()}'])\ndef test_it(line): ...\n")
    assert ids_of_their_own(source) == [f"{source}:2: getpid"]
