"""The documentation is whole: links lead somewhere, pages name their kind, the reference leaves nothing out."""

import ast
import re
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from pkgutil import walk_packages

import msgspec
import pytest

import tasktrail
from tasktrail.events import commands, errors, recorded
from tasktrail.events.log import personal

ROOT = Path(__file__).parent.parent.parent
DOCS = ROOT / "docs"
PAGES = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")] + sorted(DOCS.rglob("*.md"))
ROOMS = ("actors", "events", "handlers", "projections", "tasktrail")
KINDS = {"index", "tutorial", "how-to", "reference", "explanation", "decision"}
LINK = re.compile(r"(?<!!)\[[^\]]*\]\(([^)\s]+)\)")


def prose(page: Path) -> str:
    """Return the page without its code blocks, which may hold brackets that are not links."""
    return re.sub(r"^```.*?^```", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)


def anchors(page: Path) -> set[str]:
    """Return the names under which the headings of a page can be linked to."""
    titles = re.findall(r"^#+ (.+)$", prose(page), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def broken_links(page: Path) -> Iterator[str]:
    """Return links to files that do not exist, or to headings that the file does not have."""
    for link in LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            yield link


def front_matter(page: Path) -> dict[str, str]:
    """Return the `key: value` lines between the first two `---` lines."""
    head = re.match(r"---\n(.*?)\n---\n", page.read_text(encoding="utf-8"), flags=re.DOTALL)
    return dict(line.split(": ", 1) for line in head[1].splitlines()) if head else {}


def section(page: Path, title: str) -> str:
    """Return the text under a heading, up to the next one."""
    pattern = rf"^#+ {re.escape(title)}\n(.*?)(?=^#|\Z)"
    found = re.search(pattern, page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return found[1] if found else ""


def unnamed(names: Iterator[str] | tuple[str, ...], text: str) -> list[str]:
    """Return the names that do not stand in the text as code."""
    code = set(re.findall(r"`([^`\n]+)`", text))
    return [name for name in names if name not in code]


def every_error(root: type[errors.TasktrailError]) -> Iterator[type[errors.TasktrailError]]:
    """Return the error classes in the rooms' `errors.py`, independent of what other tests have loaded."""
    for room in ("actors", "handlers", "projections"):
        if (ROOT / room / "errors.py").exists():
            import_module(f"tasktrail.{room}.errors")
    for error in root.__subclasses__():
        if re.fullmatch(r"tasktrail\.\w+\.errors", error.__module__):
            yield error
        yield from every_error(error)


def said(module: Path) -> Iterator[str]:
    """Return a module's texts without docstrings; `cli/test_help.py` checks those of commands, which are their help."""
    tree = ast.parse(module.read_text(encoding="utf-8"))
    notes = {node.value for node in ast.walk(tree) if isinstance(node, ast.Expr)}
    for node in ast.walk(tree):
        if isinstance(node, ast.Constant) and isinstance(node.value, str) and node not in notes:
            yield node.value


@pytest.mark.slow
def test_no_message_sends_anybody_to_a_page_that_only_a_checkout_has() -> None:
    """An installation from a wheel has no folder `docs`."""
    modules = [path for room in ROOMS for path in (ROOT / room).rglob("*.py")]
    assert [(path.name, text) for path in modules for text in said(path) if "docs/" in text] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_every_link_leads_somewhere(page: Path) -> None:
    assert list(broken_links(page)) == []


@pytest.mark.parametrize("page", sorted(DOCS.rglob("*.md")), ids=lambda page: page.relative_to(DOCS).as_posix())
def test_every_page_says_its_kind_and_title(page: Path) -> None:
    matter = front_matter(page)
    assert matter.get("type") in KINDS
    assert matter.get("title")


def test_every_page_but_the_decisions_is_in_the_index() -> None:
    linked = {(DOCS / link).resolve() for link in LINK.findall(prose(DOCS / "index.md"))}
    pages = {page for page in DOCS.rglob("*.md") if page.parent.name != "decisions"}
    assert pages - linked == {DOCS / "index.md"}


@pytest.mark.parametrize("event", recorded.EVENT_TAGS)
def test_every_event_is_in_the_reference_with_its_tag_and_fields(event: type[msgspec.Struct]) -> None:
    text = section(DOCS / "reference" / "events.md", event.__name__)
    assert unnamed((recorded.EVENT_TAGS[event], *event.__struct_fields__), text) == []


def test_the_envelope_is_in_the_reference() -> None:
    fields = tuple(field for field in recorded.Recorded.__struct_fields__ if field != "event")
    assert unnamed(fields, section(DOCS / "reference" / "events.md", "The envelope")) == []


@pytest.mark.parametrize("tag", personal.PERSONAL)
def test_every_field_that_is_encrypted_is_in_the_reference(tag: str) -> None:
    table = section(DOCS / "reference" / "events.md", "What is encrypted").splitlines()
    rows = [row for row in table if row.startswith("|") and f"`{tag}`" in row.split("|")[1]]
    fields = tuple(field for field in personal.PERSONAL[tag] if not field.startswith("task."))
    assert rows
    assert unnamed(fields, "\n".join(rows)) == []


@pytest.mark.parametrize("command", commands.TaskCommand.__args__)
def test_every_command_is_in_the_reference_with_its_tag(command: type[msgspec.Struct]) -> None:
    text = section(DOCS / "reference" / "commands.md", command.__name__)
    assert unnamed((str(command.__struct_config__.tag),), text) == []


@pytest.mark.parametrize("command", commands.Command.__args__)
def test_every_field_of_a_command_is_in_the_reference(command: type[msgspec.Struct]) -> None:
    assert unnamed(command.__struct_fields__, (DOCS / "reference" / "commands.md").read_text(encoding="utf-8")) == []


def test_the_limits_are_explained_in_the_reference_as_their_options_are() -> None:
    text = section(DOCS / "reference" / "commands.md", "SetLimits")
    notes = {
        field.name: note.description
        for field in msgspec.structs.fields(commands.SetLimits)
        for note in getattr(field.type, "__metadata__", ())
        if note.description
    }
    assert len(notes) > 10
    assert [name for name, meaning in notes.items() if f"| `{name}` | {meaning} |" not in text] == []


def test_every_error_is_in_the_reference_with_its_code_and_status() -> None:
    """All modules are loaded first: only then are all classes known, whatever ran before."""
    for module in walk_packages(tasktrail.__path__, "tasktrail."):
        if not module.name.endswith(("__main__", ".reaper", ".worker")):
            import_module(module.name)
    text = (DOCS / "reference" / "errors.md").read_text(encoding="utf-8")
    rows = [f"| `{error.__name__}` | `{error.code}` | {error.status} |" for error in every_error(errors.TasktrailError)]
    assert [row for row in rows if row not in text] == []


def seed_rows() -> list[list[str]]:
    """Return the rows of the table of the seed's names: seed, ours, state, test."""
    lines = (DOCS / "reference" / "seed-table.md").read_text(encoding="utf-8").splitlines()
    rows = [[cell.strip() for cell in line.strip("|").split("|")] for line in lines if line.startswith("| ")]
    return [row for row in rows if row[0] != "seed"]


def test_every_row_of_the_seed_table_is_done_and_names_a_test() -> None:
    assert {row[2] for row in seed_rows()} == {"done"}
    assert [row[0] for row in seed_rows() if not row[3]] == []


def test_the_tests_that_the_seed_table_names_are_there() -> None:
    named = {row[3].strip("`") for row in seed_rows() if row[3]}
    missing = [name for name in named if not is_a_test(name)]
    assert missing == []


def is_a_test(name: str) -> bool:
    """Whether `folder/test_file.py::test_name` stands below tests/."""
    file, _, function = name.partition("::")
    path = ROOT / "tests" / file
    return path.is_file() and f"def {function}(" in path.read_text(encoding="utf-8")


def fault_rows() -> list[list[str]]:
    """Return number, fault, promise and proof of each row of the fault matrix."""
    text = (ROOT / "docs/explanation/faults.md").read_text(encoding="utf-8")
    return [
        [cell.strip() for cell in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("| F")
    ]


def test_the_fault_matrix_is_whole_and_each_row_names_its_proof_or_is_open() -> None:
    assert [row[0] for row in fault_rows()] == [f"F{number}" for number in range(1, len(fault_rows()) + 1)]
    assert len(fault_rows()) > 80
    assert [row[0] for row in fault_rows() if "`" not in row[3] and "*open*" not in " ".join(row[2:])] == []


def test_the_tests_and_campaigns_that_the_fault_matrix_names_are_there() -> None:
    named = {name for row in fault_rows() for name in re.findall(r"`tests/([^`]+)`", row[3])}
    assert len(named) > 80
    assert [
        name for name in named if not (is_a_test(name) if "::" in name else (ROOT / "tests" / name).is_file())
    ] == []


def test_a_link_to_a_missing_file_or_heading_is_found(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("# Some title\n[a](no.md) [b](page.md#some-title) [c](#nowhere) [d](https://example.org)\n")
    assert list(broken_links(page)) == ["no.md", "#nowhere"]


def test_links_inside_code_blocks_do_not_count(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("```\n[a](no.md)\n```\n")
    assert list(broken_links(page)) == []


def test_a_name_that_is_not_written_as_code_is_found() -> None:
    assert unnamed(("created", "position"), "`created` at some position") == ["position"]


def test_a_test_that_is_not_there_is_found() -> None:
    assert is_a_test("docs/test_docs.py::test_a_test_that_is_not_there_is_found")
    assert not is_a_test("docs/test_docs.py::test_nothing")
    assert not is_a_test("docs/test_none.py::test_nothing")
