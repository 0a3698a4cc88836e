"""A converted file states, signed, what it was made from; the input's own statements are kept."""

import json
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import av
import c2pa
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, ed25519
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID
from msgspec.structs import replace
from odd_certificates import of_ninth_version
from PIL import Image

from tasktrail import TaskService
from tasktrail.config.settings import Config
from tasktrail.events import Task
from tasktrail.events.errors import ConfigurationError
from tasktrail.events.reports import Run
from tasktrail.handlers.errors import CertificateOutOfDate, ManifestMissing
from tasktrail.handlers.manifest_key import read_claims
from tasktrail.handlers.manifests import FORMATS, Signing, sign
from tasktrail.handlers.media.formats import HEIC_SUFFIXES
from tasktrail.handlers.process.sandboxed import SandboxedAttempts

Key = ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey
WITHIN = 60.0


def named(name: str) -> x509.Name:
    """C2PA requires an organization in it."""
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "tests"),
            x509.NameAttribute(NameOID.COMMON_NAME, name),
        ]
    )


def certificates(key: Key, begins: int, ends: int) -> bytes:
    """Make a signer's certificate, valid between two days, under an authority of our own that no one trusts."""
    now, above = datetime.now(UTC), ec.generate_private_key(ec.SECP256R1())

    def begun(name: str, public: Any, first: int = -100, last: int = 100) -> x509.CertificateBuilder:
        return (
            x509.CertificateBuilder()
            .subject_name(named(name))
            .issuer_name(named("authority"))
            .public_key(public)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now + timedelta(days=first))
            .not_valid_after(now + timedelta(days=last))
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public), critical=False)
        )

    def usage(*, signs_certificates: bool) -> x509.KeyUsage:
        return x509.KeyUsage(
            digital_signature=not signs_certificates,
            content_commitment=False,
            key_encipherment=False,
            data_encipherment=False,
            key_agreement=False,
            key_cert_sign=signs_certificates,
            crl_sign=signs_certificates,
            encipher_only=False,
            decipher_only=False,
        )

    authority = (
        begun("authority", above.public_key())
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .add_extension(usage(signs_certificates=True), critical=True)
        .sign(above, SHA256())
    )
    signer = (
        begun("signer", key.public_key(), begins, ends)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(usage(signs_certificates=False), critical=True)
        .add_extension(x509.ExtendedKeyUsage([ExtendedKeyUsageOID.EMAIL_PROTECTION]), critical=True)
        .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(above.public_key()), critical=False)
        .sign(above, SHA256())
    )
    return signer.public_bytes(Encoding.PEM) + authority.public_bytes(Encoding.PEM)


def written(folder: Path, key: Key, begins: int = -1, ends: int = 30) -> tuple[str, str]:
    """Write certificates and key, and return their paths."""
    (folder / "chain.pem").write_bytes(certificates(key, begins, ends))
    (folder / "key.pem").write_bytes(key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption()))
    return str(folder / "chain.pem"), str(folder / "key.pem")


@pytest.fixture(scope="module")
def identity(tmp_path_factory: pytest.TempPathFactory) -> tuple[str, str]:
    return written(tmp_path_factory.mktemp("key"), ec.generate_private_key(ec.SECP256R1()))


@pytest.fixture
def photo(tmp_path: Path) -> Path:
    Image.linear_gradient("L").convert("RGB").save(tmp_path / "in.jpg")
    return tmp_path / "in.jpg"


def read(path: Path) -> tuple[str, Any]:
    """Return an independent view of the file: valid or not, and the manifest."""
    with path.open("rb") as file, c2pa.Reader(FORMATS[path.suffix], file) as reader:
        said = json.loads(reader.json())
        return reader.get_validation_state() or "", said["manifests"][said["active_manifest"]]


def pixels(path: Path) -> bytes:
    with Image.open(path) as picture:
        return picture.convert("RGB").tobytes()


def convert(source: Path, output: Path) -> None:
    with Image.open(source) as picture:
        picture.save(output)


# --- by itself ---


@pytest.fixture
def give(identity: tuple[str, str], tmp_path: Path) -> Callable[..., dict[str, Any]]:
    """Give a file, as if an attempt had just made it, a manifest in the name of a run."""
    claims = read_claims(*identity)

    def given(source: Path, output: Path, **options: Any) -> dict[str, Any]:
        run = Run(1, 1, "image_convert", str(source), str(output), options, None, str(tmp_path / "work"))
        (tmp_path / "work").mkdir(exist_ok=True)
        return Signing(claims, lambda content: sign(claims, content)).add_manifest(run, output)

    return given


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".gif", ".tiff", ".avif"])
def test_each_format_carries_it_and_shows_the_same_picture(
    suffix: str, give: Callable[..., dict[str, Any]], photo: Path, tmp_path: Path
) -> None:
    output = tmp_path / f"out{suffix}"
    convert(photo, output)
    before, size = pixels(output), output.stat().st_size
    told = give(photo, output)
    state, manifest = read(output)
    assert state == "Valid"
    assert told["c2pa"] == {"manifest": manifest["label"], "input_manifest": False}
    assert told["size"] == output.stat().st_size < size + 16 * 1024
    assert pixels(output) == before
    (parent,) = manifest["ingredients"]
    assert (parent["relationship"], parent["title"]) == ("parentOf", "input.jpg")
    assert not list((tmp_path / "work").iterdir())


def test_the_manifest_of_the_input_is_kept_and_no_path_or_value_is_told(
    give: Callable[..., dict[str, Any]], photo: Path, tmp_path: Path
) -> None:
    first, second = tmp_path / "first.jpg", tmp_path / "second.webp"
    convert(photo, first)
    earlier = give(photo, first)
    convert(first, second)
    told = give(first, second, crop="10:10:0:0", quality=7)
    assert told["c2pa"]["input_manifest"]
    _, manifest = read(second)
    assert manifest["ingredients"][0]["active_manifest"] == earlier["c2pa"]["manifest"]
    (actions,) = [one["data"]["actions"] for one in manifest["assertions"] if one["label"].startswith("c2pa.actions")]
    assert [action["action"] for action in actions] == ["c2pa.opened", "c2pa.edited"]
    assert actions[1]["parameters"]["org.tasktrail.options"] == ["crop", "quality"]
    assert str(tmp_path).encode() not in second.read_bytes()
    assert b"10:10" not in second.read_bytes()


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".gif", ".tiff", ".avif"])
@pytest.mark.parametrize("name", ["in", "in.dat", "in.jfif", "in.png", "in.mp4"])
def test_the_manifest_of_the_input_is_kept_whatever_the_input_is_called(
    suffix: str, name: str, give: Callable[..., dict[str, Any]], photo: Path, tmp_path: Path
) -> None:
    first, output = tmp_path / f"first{suffix}", tmp_path / "out.jpg"
    convert(photo, first)
    earlier = give(photo, first)
    convert(photo, output)
    told = give(first.rename(tmp_path / name), output)
    assert told["c2pa"]["input_manifest"]
    state, manifest = read(output)
    assert (state, manifest["ingredients"][0]["active_manifest"]) == ("Valid", earlier["c2pa"]["manifest"])


@pytest.mark.parametrize("begin", [b"\xff\xd8\xff", b"\x89PNG\r\n\x1a\n", b"RIFF\0\0\0\x20AVI ", b"\0\0\0\x18ftypisom"])
def test_an_input_that_the_library_cannot_read_is_told_by_its_hash(
    begin: bytes, give: Callable[..., dict[str, Any]], photo: Path, tmp_path: Path
) -> None:
    """Other programs may read it: a film with some bytes after its end, or a truncated recording, can be converted."""
    source, output = tmp_path / "in.mov", tmp_path / "out.jpg"
    source.write_bytes(begin + b"something" * 20)
    convert(photo, output)
    assert not give(source, output)["c2pa"]["input_manifest"]
    state, manifest = read(output)
    (parent,) = manifest["ingredients"]
    assert (state, parent["title"]) == ("Valid", "input.mov")


def test_one_changed_byte_is_found(give: Callable[..., dict[str, Any]], photo: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.jpg"
    convert(photo, output)
    give(photo, output)
    content = bytearray(output.read_bytes())
    content[-50] ^= 1
    output.write_bytes(content)
    assert read(output)[0] == "Invalid"


@pytest.mark.parametrize("key", [ec.generate_private_key(ec.SECP384R1()), ed25519.Ed25519PrivateKey.generate()])
def test_other_kinds_of_keys_sign_too(key: Key, photo: Path, tmp_path: Path) -> None:
    claims = read_claims(*written(tmp_path, key))
    output = tmp_path / "out.png"
    convert(photo, output)
    run = Run(1, 1, "image_convert", str(photo), str(output), {}, None, str(tmp_path))
    Signing(claims, lambda content: sign(claims, content)).add_manifest(run, output)
    assert read(output)[0] == "Valid"


def test_what_cannot_carry_one_is_left_alone(give: Callable[..., dict[str, Any]], photo: Path, tmp_path: Path) -> None:
    output = tmp_path / "out.mkv"
    output.write_bytes(b"a film")
    assert give(photo, output) == {}
    assert output.read_bytes() == b"a film"


def test_a_refused_signature_is_an_error_and_the_output_stays_as_it_was(
    identity: tuple[str, str], photo: Path, tmp_path: Path
) -> None:
    output = tmp_path / "out.jpg"
    convert(photo, output)
    before = output.read_bytes()
    run = Run(1, 1, "image_convert", str(photo), str(output), {}, None, str(tmp_path))
    with pytest.raises(ManifestMissing):
        Signing(read_claims(*identity), lambda _content: b"").add_manifest(run, output)
    assert output.read_bytes() == before


def test_a_key_of_another_certificate_and_files_that_hold_none_are_told(
    identity: tuple[str, str], tmp_path: Path
) -> None:
    other = written(tmp_path, ec.generate_private_key(ec.SECP256R1()))
    for pair, field in (
        ((identity[0], other[1]), "c2pa_key"),
        ((identity[1], identity[1]), "c2pa_certificate"),
        ((identity[0], str(tmp_path / "no")), "c2pa_certificate"),
        ((identity[0], identity[0]), "c2pa_certificate"),
    ):
        with pytest.raises(ConfigurationError) as told:
            read_claims(*pair)
        assert told.value.field == field
    with (
        pytest.raises(ConfigurationError),
        TaskService.open(tmp_path / "data", config=Config(workers=1, c2pa_certificate=identity[0], c2pa_key=other[1])),
    ):
        pass


def test_a_certificate_of_a_version_that_there_is_not_is_told(identity: tuple[str, str], tmp_path: Path) -> None:
    """The library has an error of its own for it, which ended `doctor` and the start with a traceback."""
    ninth = tmp_path / "ninth.pem"
    ninth.write_text(of_ninth_version(Path(identity[0]).read_text()))
    with pytest.raises(ConfigurationError, match="c2pa_certificate and c2pa_key cannot be used") as told:
        read_claims(str(ninth), identity[1])
    assert told.value.field == "c2pa_certificate"


def test_a_sandboxed_attempt_gets_two_short_signatures_and_no_more() -> None:
    asked: list[bytes] = []

    def signer(content: bytes) -> bytes:
        asked.append(content)
        if content == b"key gone":
            raise OSError
        return b"signature"

    worker = SandboxedAttempts.__new__(SandboxedAttempts)
    worker._sign = signer
    assert [worker._signature(b"claim", number) for number in (1, 2, 3)] == [b"signature", b"signature", b""]
    assert worker._signature(bytes(64 * 1024 + 1), 1) == b""
    assert worker._signature(b"key gone", 1) == b""
    assert len(asked) == 3
    worker._sign = None
    assert worker._signature(b"claim", 1) == b""


# --- by a service, in the sandbox that there is ---


@pytest.fixture(scope="module", params=["auto", "off"])
def service(
    request: pytest.FixtureRequest, identity: tuple[str, str], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[TaskService]:
    config = Config(workers=1, sandbox=request.param, c2pa_certificate=identity[0], c2pa_key=identity[1])
    with TaskService.open(tmp_path_factory.mktemp("c2pa") / "data", config=config) as running:
        yield running


def done(service: TaskService, **fields: Any) -> Task:
    task = service.wait(service.create_task(**fields), timeout=WITHIN)
    assert task.status == "completed", task.error
    return task


def test_a_service_signs_what_it_converts_and_its_result_tells_of_it(
    service: TaskService, photo: Path, tmp_path: Path
) -> None:
    first = done(service, type="image_convert", input_file=photo, output_file=tmp_path / "out.webp")
    state, manifest = read(tmp_path / "out.webp")
    assert (state, manifest["label"]) == ("Valid", first.result["c2pa"]["manifest"])
    assert first.result["size"] == (tmp_path / "out.webp").stat().st_size
    second = done(service, type="image_convert", input_file=tmp_path / "out.webp", output_file=tmp_path / "out.png")
    assert second.result["c2pa"]["input_manifest"]
    plain = done(service, type="image_thumbnail", input_file=photo, output_file=tmp_path / "small.jpg")
    assert "c2pa" not in plain.result


@pytest.mark.parametrize("suffix", HEIC_SUFFIXES)
def test_heic_carries_it_under_both_of_its_suffixes(
    suffix: str, service: TaskService, photo: Path, tmp_path: Path
) -> None:
    made = done(service, type="image_convert", input_file=photo, output_file=tmp_path / f"out{suffix}")
    with (tmp_path / f"out{suffix}").open("rb") as file, c2pa.Reader("image/heic", file) as reader:
        assert reader.get_validation_state() == "Valid"
    assert not made.result["c2pa"]["input_manifest"]


def test_a_film_plays_as_before_and_one_that_cannot_carry_it_has_none(service: TaskService, tmp_path: Path) -> None:
    source = tmp_path / "in.mkv"
    with av.open("testsrc2=size=160x120:rate=25:duration=1", format="lavfi") as made, av.open(str(source), "w") as file:
        stream = file.add_stream("libx264", rate=25)
        stream.width, stream.height, stream.pix_fmt = 160, 120, "yuv420p"
        for frame in made.decode(video=0):
            file.mux(stream.encode(frame.reformat(format="yuv420p")))
        file.mux(stream.encode())
    done(service, type="video_convert", input_file=source, output_file=tmp_path / "out.mp4")
    assert read(tmp_path / "out.mp4")[0] == "Valid"
    with av.open(str(tmp_path / "out.mp4")) as film:
        assert sum(1 for _ in film.decode(video=0)) == 25
    other = done(service, type="video_convert", input_file=source, output_file=tmp_path / "out.mkv")
    assert "c2pa" not in other.result


def test_an_attempt_whose_key_is_gone_publishes_nothing(tmp_path: Path, photo: Path) -> None:
    certificate, key = written(tmp_path, ec.generate_private_key(ec.SECP256R1()))
    config = Config(workers=1, c2pa_certificate=certificate, c2pa_key=key)
    with TaskService.open(tmp_path / "data", config=config) as service:
        Path(key).unlink()
        task_id = service.create_task(
            type="image_convert", input_file=photo, output_file=tmp_path / "out.png", max_retries=0
        )
        task = service.wait(task_id, timeout=WITHIN)
    assert (task.status, task.error_type) == ("failed", "ManifestMissing")
    assert not (tmp_path / "out.png").exists()


@pytest.mark.parametrize(("begins", "ends", "told"), [(-9, -1, "has expired"), (1, 9, "is not valid before")])
def test_certificates_that_are_not_valid_stop_an_attempt_before_its_work(
    begins: int, ends: int, told: str, tmp_path: Path, photo: Path
) -> None:
    certificate, key = written(tmp_path, ec.generate_private_key(ec.SECP256R1()), begins, ends)
    config = Config(workers=1, c2pa_certificate=certificate, c2pa_key=key)
    with TaskService.open(tmp_path / "data", config=config) as service:
        assert any(told in trouble for trouble in service.degraded)
        outputs = [tmp_path / "out.png", tmp_path / "out.bmp"]
        ids = [
            service.create_task(type="image_convert", input_file=photo, output_file=output, max_retries=0)
            for output in outputs
        ]
        signed, plain = [service.wait(task_id, timeout=WITHIN) for task_id in ids]
    assert (signed.status, signed.error_type) == ("failed", "CertificateOutOfDate")
    assert told in signed.error
    assert signed.progress == 0
    assert plain.status == "completed", plain.error
    assert [output.exists() for output in outputs] == [False, True]


def test_a_certificate_that_expires_in_the_middle_signs_nothing_more(
    photo: Path, tmp_path: Path, identity: tuple[str, str]
) -> None:
    claims = replace(read_claims(*identity), ends=datetime.now(UTC))
    output = tmp_path / "out.jpg"
    convert(photo, output)
    run = Run(1, 1, "image_convert", str(photo), str(output), {}, None, str(tmp_path))
    with pytest.raises(CertificateOutOfDate):
        Signing(claims, lambda content: sign(claims, content)).add_manifest(run, output)
