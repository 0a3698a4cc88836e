"""Functions stay small, and Structs keep annotations that msgspec can read."""

import ast
import os
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
ROOMS = ("actors", "events", "handlers", "projections", "tasktrail")
FUNCTION_LINES = 60


def sources(root: Path, *folders: str) -> Iterator[Path]:
    """Python files below the folders; the links inside tasktrail/ are not followed."""
    for folder in folders:
        for where, _, files in os.walk(root / folder):
            yield from (Path(where, file) for file in sorted(files) if file.endswith(".py"))


def too_long(path: Path) -> list[str]:
    """Functions that do not fit a screen. A file may be as long as its one idea."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            size = (node.end_lineno or node.lineno) - node.lineno + 1
            if size > FUNCTION_LINES:
                found.append(f"{path}:{node.lineno}: {node.name} has {size} lines")
    return found


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


def test_functions_fit_a_reader() -> None:
    assert [line for path in sources(ROOT, *ROOMS, "tests") for line in too_long(path)] == []


def test_no_file_with_structs_postpones_its_annotations() -> None:
    assert structs_with_text_annotations(list(sources(ROOT, *ROOMS, "tests"))) == []


@pytest.mark.parametrize("keyword", ["def", "async def"])
def test_a_long_function_is_found(tmp_path: Path, keyword: str) -> None:
    path = tmp_path / "module.py"
    path.write_text(f"{keyword} f():\n" + "    x = 1\n" * 60)
    assert too_long(path) == [f"{path}:1: f has 61 lines"]


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


def test_a_test_has_the_same_name_in_every_process() -> None:
    assert [line for path in sources(ROOT, "tests") for line in ids_of_their_own(path)] == []


def test_a_name_that_differs_is_found(tmp_path: Path) -> None:
    source = tmp_path / "test_it.py"
    source.write_text("@pytest.mark.parametrize('line', [f'pid {os.getpid()}'])\ndef test_it(line): ...\n")
    assert ids_of_their_own(source) == [f"{source}:2: getpid"]
