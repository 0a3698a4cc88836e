"""A log's tiles equal those of another implementation, as of a seal, and they only grow."""

import shutil
import sys
from collections.abc import Iterator
from contextlib import closing
from hashlib import sha256
from importlib import import_module
from pathlib import Path
from random import Random
from typing import Any

import pytest
from histories import BEGIN, Journal, random_history
from sealed_logs import Sealed, chained_anew

from tasktrail.events.errors import InvalidPath
from tasktrail.events.log.rows import COLUMNS
from tasktrail.events.log.sqlite import SqliteEventLog
from tasktrail.events.log.sqlite_reader import SqliteLogReader
from tasktrail.exports.tiles import WrittenTiles, write_tiles
from tasktrail.projections.errors import SealUnfit
from tasktrail.projections.proof.tiles import tiles_of

needs_tlog = pytest.mark.skipif(sys.version_info < (3, 12), reason="aics-tlog is for Python 3.12 and newer")
SIZES = (0, 1, 2, 255, 256, 257, 511, 512, 700, 65_535, 65_536, 65_537, 65_536 + 256, 131_072 + 300)


def hashes(number: int) -> list[bytes]:
    return [sha256(str(place).encode()).digest() for place in range(number)]


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Make a log whose tree has two levels of tiles, sealed in the middle and near its end."""
    house = Sealed(tmp_path_factory.mktemp("sealed"))
    log = SqliteEventLog(house.path, now=BEGIN)
    journal = Journal(log)
    for seed, steps in enumerate((700, 500)):
        random_history(journal, steps, seed=seed)
        house.seal(seed)
    random_history(journal, 20, seed=9)
    log.close()
    return house.path.parent


@pytest.fixture
def sealed(made: Path, tmp_path: Path) -> Sealed:
    """Make a copy that a test may damage."""
    return Sealed(Path(shutil.copytree(made, tmp_path / "copy")))


def sizes(sealed: Sealed) -> list[int]:
    return sorted(int(path.stem) for path in sealed.seals.glob("*.note"))


def written(sealed: Sealed, out: Path) -> WrittenTiles:
    with closing(SqliteLogReader(sealed.path)) as log:
        return write_tiles(log, sealed.seals, out, lambda _done, _goal: None)


def content(folder: Path) -> dict[str, bytes]:
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def drop_newest(sealed: Sealed) -> bytes:
    path = sealed.seals / f"{sizes(sealed)[-1]}.note"
    note = path.read_bytes()
    path.unlink()
    return note


@needs_tlog
@pytest.mark.parametrize("size", SIZES)
def test_every_file_is_the_one_that_another_implementation_makes(size: int) -> None:
    tiles = import_module("aics_tlog.tiles")
    digests = hashes(size)
    assert {tile.path: tile.content for tile in tiles_of(digests)} == tiles.materialise_tiles(digests)


def test_a_path_has_three_digits_a_folder() -> None:
    paths = [tile.path for tile in tiles_of(bytes(32) for _ in range(256_000 + 256 + 7))]
    assert {"tile/0/999", "tile/0/x001/000", "tile/0/x001/001.p/7", "tile/1/003.p/233", "tile/2/000.p/3"} <= {*paths}
    assert {"tile/entries/x001/000", "tile/entries/x001/001.p/7"} <= {*paths}


@needs_tlog
def test_a_stock_verifier_opens_the_checkpoint_and_proves_any_record_and_any_growth(
    sealed: Sealed, tmp_path: Path
) -> None:
    tlog = import_module("aics_tlog")
    out = tmp_path / "out"
    told = written(sealed, out)
    assert told.size == sizes(sealed)[-1] > 512
    note = tlog.parse_note((out / "checkpoint").read_text())
    assert tlog.verify_note(note, [tlog.parse_vkey(sealed.key)])
    said = tlog.parse_checkpoint(note.text)
    reader = tlog.FileSystemTileReader(out)
    assert (said.size, said.root, said.root.hex()) == (
        told.size,
        tlog.tree_root_from_tiles(reader, said.size),
        told.root,
    )
    with closing(SqliteLogReader(sealed.path)) as log:
        digests = [digest for *_, digest in log.hashes(limit=said.size)]
    chance = Random(3)
    for index in (0, said.size - 1, *(chance.randrange(said.size) for _ in range(50))):
        assert tlog.read_entry(reader, index, said.size) == digests[index]
        path = tlog.inclusion_proof_from_tiles(reader, index, said.size)
        assert tlog.verify_leaf_inclusion(digests[index], index, said.size, path, said.root)
    old = sizes(sealed)[0]
    path = tlog.consistency_proof_from_tiles(reader, old, said.size)
    before = tlog.parse_checkpoint(tlog.parse_note((sealed.seals / f"{old}.note").read_text()).text)
    assert tlog.verify_consistency(old, said.size, before.root, said.root, path)


def test_the_same_folder_gets_what_is_new_and_what_was_partial_goes_when_it_is_full(
    sealed: Sealed, tmp_path: Path
) -> None:
    grown, fresh = tmp_path / "grown", tmp_path / "fresh"
    newest = drop_newest(sealed)
    first = written(sealed, grown)
    before = content(grown)
    assert written(sealed, grown) == first._replace(files=0, bytes=0)
    (sealed.seals / f"{_size_of(newest)}.note").write_bytes(newest)
    second = written(sealed, grown)
    assert second.size > first.size
    after = content(grown)
    kept = {name: before[name] for name in before if ".p/" not in name and name != "checkpoint"}
    assert kept.items() <= after.items()
    written(sealed, fresh)
    left = {name for name in after if name not in content(fresh)}
    assert content(fresh).items() <= after.items()
    assert all(".p/" in name and name.split(".p/")[0] not in after for name in left)


def _size_of(note: bytes) -> int:
    return int(note.split(b"\n")[1])


def test_only_hashes_leave(sealed: Sealed, tmp_path: Path) -> None:
    written(sealed, tmp_path / "out")
    with closing(SqliteLogReader(sealed.path)) as log:
        allowed = {digest for *_, digest in log.hashes()}
        actors = {record.actor for record in log.read() if len(record.actor) > 3}
    files = content(tmp_path / "out")
    for name, found in files.items():
        assert not any(actor.encode() in found for actor in actors)
        if "/entries/" in name:
            assert {found[place + 2 : place + 34] for place in range(0, len(found), 34)} <= allowed
        elif name != "checkpoint":
            assert len(found) % 32 == 0
    assert actors


def test_a_changed_file_is_mended_and_a_cut_export_goes_on(sealed: Sealed, tmp_path: Path) -> None:
    out = tmp_path / "out"
    written(sealed, out)
    whole = content(out)
    (out / "tile/0/000").write_bytes(b"")
    (out / "tile/1/000.p").rename(tmp_path / "elsewhere")
    (out / "checkpoint").unlink()
    assert written(sealed, out).files == 2
    assert content(out) == whole


def test_nothing_is_written_through_a_link_that_somebody_has_put_there(sealed: Sealed, tmp_path: Path) -> None:
    out, precious = tmp_path / "out", tmp_path / "precious"
    precious.write_text("of somebody else")
    out.mkdir()
    (out / ".checkpoint.part").symlink_to(precious)

    written(sealed, out)
    assert precious.read_text() == "of somebody else"
    assert not (out / "checkpoint").is_symlink()
    assert not (out / ".checkpoint.part").is_symlink()


def others(sealed: Sealed) -> Iterator[Any]:
    """Yield changes that make another log than the one whose tiles the folder has."""
    yield lambda rows: rows[3].__setitem__(COLUMNS.index("reason"), "another")
    yield lambda rows: rows.__delitem__(slice(sizes(sealed)[0] - 5, None))


@pytest.mark.parametrize("number", [0, 1])
def test_a_log_that_is_not_as_sealed_writes_nothing(number: int, sealed: Sealed, tmp_path: Path) -> None:
    chained_anew(sealed.path, list(others(sealed))[number])
    with pytest.raises(SealUnfit, match="is not as"):
        written(sealed, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_the_tiles_of_another_log_or_of_a_longer_one_are_left_alone(sealed: Sealed, tmp_path: Path) -> None:
    out = tmp_path / "out"
    written(sealed, out)
    before = content(out)
    drop_newest(sealed)
    with pytest.raises(InvalidPath, match="tiles of another log: its checkpoint speaks of"):
        written(sealed, out)
    shutil.rmtree(sealed.seals)
    chained_anew(sealed.path, lambda rows: rows[3].__setitem__(COLUMNS.index("reason"), "another"))
    sealed.seal()  # as an insider with the key does
    with pytest.raises(InvalidPath, match="does not match the first"):
        written(sealed, out)
    (out / "checkpoint").write_text("nonsense")
    with pytest.raises(InvalidPath, match="tiles of another log"):
        written(sealed, out)
    assert {**content(out), "checkpoint": b""} == {**before, "checkpoint": b""}


def test_without_a_seal_it_says_what_to_do(sealed: Sealed, tmp_path: Path) -> None:
    for path in sealed.seals.glob("*.note"):
        path.unlink()
    with pytest.raises(SealUnfit, match="no seal") as found:
        written(sealed, tmp_path / "out")
    assert "tasktrail seal" in found.value.advice
