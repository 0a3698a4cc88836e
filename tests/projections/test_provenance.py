"""From what a file was made: what the log says, in the form that others read, signed so that they can check it."""

import base64
import json
from collections.abc import Iterator
from contextlib import closing
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Any

import msgspec
import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from PIL import Image

from tasktrail import TaskService, __version__
from tasktrail.config.settings import Config
from tasktrail.events.errors import InvalidPath, UnknownTask
from tasktrail.events.log.sqlite import LogReader
from tasktrail.projections.errors import SealUnfit
from tasktrail.projections.proof.notes import PrivateKey
from tasktrail.projections.proof.provenance import maker_of, signed, statement

NAME = "tasktrail/0123456789ab"


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A service has made small.jpg of in.png, by a batch, and other.jpg by itself; a third task was cancelled.

    Then it was told to hash small inputs only, and made two more, one of them by a batch.
    """
    folder = tmp_path_factory.mktemp("house")
    Image.linear_gradient("L").save(folder / "in.png")
    with TaskService.open(folder / "data", config=Config(workers=1)) as tasks:
        work: dict[str, Any] = {"type": "image_thumbnail", "input_file": folder / "in.png"}
        of_a_batch = tasks.create_task(**work, output_file=folder / "small.jpg", batch="b", options={"width": 32})
        alone = tasks.create_task(**work, output_file=folder / "other.jpg", options={"width": 48})
        cancelled = tasks.create_task(**work, output_file=folder / "never.jpg", held=True)
        tasks.cancel_task(cancelled)
        for task_id in (of_a_batch, alone):
            assert tasks.wait(task_id, timeout=60).status == "completed"
    with TaskService.open(folder / "data", config=Config(workers=1, hash_inputs_up_to=100)) as tasks:
        unhashed = tasks.create_task(**work, output_file=folder / "unhashed.jpg", options={"width": 16})
        of_another = tasks.create_task(**work, output_file=folder / "tiny.jpg", batch="c", options={"width": 8})
        for task_id in (unhashed, of_another):
            assert tasks.wait(task_id, timeout=60).status == "completed"
    return folder


@pytest.fixture
def log(house: Path) -> Iterator[LogReader]:
    with closing(LogReader(house / "data" / "log.db")) as opened:
        yield opened


def digest(path: Path) -> str:
    return sha256(path.read_bytes()).hexdigest()


def test_a_statement_names_input_output_options_times_and_the_record(house: Path, log: LogReader) -> None:
    said = statement(log, 1, NAME)
    assert said["subject"] == [{"name": "small.jpg", "digest": {"sha256": digest(house / "small.jpg")}}]
    built, run = said["predicate"]["buildDefinition"], said["predicate"]["runDetails"]
    (source,) = built["resolvedDependencies"]
    assert source["uri"] == (house / "in.png").as_uri()
    assert source["digest"] == {"sha256": digest(house / "in.png")}
    assert built["externalParameters"]["options"] == {"width": 32}
    (record,) = log.read(run["byproducts"][0]["annotations"]["position"] - 1, 1)
    assert (record.task_id, record.name) == (1, "completed")
    assert run["metadata"]["startedOn"] < run["metadata"]["finishedOn"]
    assert run["builder"]["version"] == {"tasktrail": __version__, "pillow": version("pillow")}
    assert msgspec.json.decode(msgspec.json.encode(said)) == said


@pytest.mark.parametrize("task_id", [1, 2, 5])
def test_the_input_is_told_by_its_hash_in_a_batch_or_alone(task_id: int, house: Path, log: LogReader) -> None:
    (source,) = statement(log, task_id, NAME)["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert source["digest"] == {"sha256": digest(house / "in.png")}


def test_an_input_whose_bytes_nobody_hashed_is_told_by_size_and_time(house: Path, log: LogReader) -> None:
    (source,) = statement(log, 4, NAME)["predicate"]["buildDefinition"]["resolvedDependencies"]
    assert "digest" not in source
    assert source["annotations"]["size"] == (house / "in.png").stat().st_size


def test_the_signature_is_that_of_a_dsse_envelope(log: LogReader) -> None:
    key = PrivateKey.made(NAME)
    envelope = json.loads(json.dumps(signed(statement(log, 1, NAME), key)))
    payload = base64.b64decode(envelope["payload"])
    covered = b"DSSEv1 28 application/vnd.in-toto+json %d " % len(payload) + payload
    public = Ed25519PublicKey.from_public_bytes(base64.b64decode(key.public.text.split("+", 2)[2])[1:])
    signature = base64.b64decode(envelope["signatures"][0]["sig"])
    public.verify(signature, covered)
    with pytest.raises(InvalidSignature):
        public.verify(signature, covered.replace(b"small.jpg", b"other.jpg"))


def test_the_maker_of_a_file_is_found_wherever_it_lies_and_not_once_it_was_changed(
    house: Path, log: LogReader, tmp_path: Path
) -> None:
    file = tmp_path / "moved.bin"
    file.write_bytes((house / "small.jpg").read_bytes())
    assert (maker_of(log, file), maker_of(log, house / "other.jpg")) == (1, 2)
    with file.open("r+b") as opened:
        opened.seek(30)
        opened.write(b"x")
    with pytest.raises(UnknownTask, match="No task of this log has made"):
        maker_of(log, file)
    with pytest.raises(InvalidPath, match="cannot be read"):
        maker_of(log, tmp_path / "none")


def test_what_has_made_no_file_says_so(log: LogReader) -> None:
    with pytest.raises(SealUnfit, match="has not completed"):
        statement(log, 3, NAME)
    with pytest.raises(UnknownTask):
        statement(log, 99, NAME)
