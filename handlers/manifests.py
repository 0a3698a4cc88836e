"""The C2PA manifest of an output: a signed statement inside the file that says what it was made from, and by what.

The library reads input and output in the attempt's own process, inside its sandbox. The key stays outside: the attempt
sends the bytes to sign to its worker, and gets the signature.
"""

import shutil
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any, BinaryIO

import msgspec

from ..events.existence import is_file
from ..events.reports import Run
from .errors import CertificateOutOfDate, ManifestMissing
from .pieces import settled

FORMATS = {
    ".jpg": "image/jpeg",
    ".jpeg": "image/jpeg",
    ".png": "image/png",
    ".webp": "image/webp",
    ".gif": "image/gif",
    ".tif": "image/tiff",
    ".tiff": "image/tiff",
    ".avif": "image/avif",
    ".heic": "image/heic",
    ".heif": "image/heif",
    ".mp4": "video/mp4",
    ".m4v": "video/mp4",
    ".mov": "video/quicktime",
}
"""Suffix of an output → the library's name of the format, for formats that can carry a manifest."""
_STARTS = (
    (b"\xff\xd8\xff", "image/jpeg"),
    (b"\x89PNG\r\n\x1a\n", "image/png"),
    (b"GIF8", "image/gif"),
    (b"II*\0", "image/tiff"),
    (b"MM\0*", "image/tiff"),
    (b"II+\0", "image/tiff"),  # BigTIFF
    (b"MM\0+", "image/tiff"),
)
_RIFF = {b"WEBP": "image/webp", b"AVI ": "video/avi"}
_BRANDS = {
    **dict.fromkeys((b"avif", b"avis"), "image/avif"),
    **dict.fromkeys((b"heic", b"heix", b"heim", b"heis", b"mif1", b"msf1"), "image/heic"),
    b"qt  ": "video/quicktime",
}
_UNKNOWN = "application/octet-stream"
"""The library looks for no manifest in such an input."""
Sign = Callable[[bytes], bytes]
"""Returns the signature of some bytes, in the form that COSE uses."""
_SETTINGS = {
    "builder": {"thumbnail": {"enabled": False}},
    "verify": {"remote_manifest_fetch": False, "ocsp_fetch": False, "verify_after_sign": False},
}


class Claims(msgspec.Struct, frozen=True):
    """The certificates and the key that sign manifests."""

    certificates: str
    """The signer's certificate and those above it, in PEM."""
    key_file: str
    algorithm: str
    begins: datetime
    """From then on all certificates are valid."""
    ends: datetime
    """From then on at least one certificate is no longer valid."""

    def trouble(self, now: datetime) -> str:
        """Why the certificates cannot sign at this time; empty when they can."""
        if now < self.begins:
            return f"c2pa_certificate is not valid before {self.begins:%Y-%m-%d %H:%M} UTC"
        return (
            ""
            if now <= self.ends
            else f"c2pa_certificate has expired: it was valid until {self.ends:%Y-%m-%d %H:%M} UTC"
        )


def sign(claims: Claims, content: bytes) -> bytes:
    """The signature of some bytes, in the form that COSE uses. Raises `OSError`, `ValueError`."""
    from .manifest_key import signature  # noqa: PLC0415 - most workers never sign

    return signature(claims.key_file, content)


class Signing:
    """Gives outputs their manifests.

    Args:
        claims: the certificates to sign with.
        signer: makes the signatures.
    """

    def __init__(self, claims: Claims, signer: Sign) -> None:
        self._claims = claims
        self._signer = signer

    def check(self, run: Run) -> None:
        """Check before the work, which may be long, that its output can be signed. Raises `CertificateOutOfDate`."""
        trouble = self._claims.trouble(datetime.now(UTC))
        if trouble and FORMATS.get(Path(run.output_file).suffix.lower()):
            raise CertificateOutOfDate(trouble)

    def add_manifest(self, run: Run, part: Path) -> dict[str, Any]:
        """Put a manifest into the finished output. Returns fields for the result: the new size and hash, the manifest.

        A manifest that the input has is kept in the new one, as the parent's. An output that cannot carry one stays as
        it is.

        Raises:
            ManifestMissing: the library refuses the output, or the worker did not sign.
            CertificateOutOfDate: a certificate has expired meanwhile.
            OSError: a file cannot be written.
        """
        import c2pa  # noqa: PLC0415 - an extra

        output, source = Path(run.output_file), Path(run.input_file)
        form = FORMATS.get(output.suffix.lower())
        if form is None or not is_file(part):
            return {}
        self.check(run)
        signed = Path(run.work_dir) / f"manifest{output.suffix}"
        try:
            store = self._embed(c2pa, made_by(run), source, part, signed, form)
        except c2pa.C2paError as error:
            raise ManifestMissing(f"{output.name} cannot be given a C2PA manifest: {error}") from error
        shutil.move(signed, part)
        size, digest = settled(part)
        active = store["manifests"][store["active_manifest"]]
        kept = any("active_manifest" in ingredient for ingredient in active.get("ingredients", ()))
        return {
            "size": size,
            "sha256": digest,
            "c2pa": {"manifest": store["active_manifest"], "input_manifest": kept},
        }

    def _embed(
        self, c2pa: Any, made: "ManifestClaim", source: Path, part: Path, signed: Path, form: str
    ) -> dict[str, Any]:
        """Write the file with its manifest. Returns what the library reads back from it."""
        context = c2pa.Context(c2pa.Settings.from_dict(_SETTINGS))
        builder = c2pa.Builder.from_json(made.manifest(part.suffix), context)
        builder.set_intent(c2pa.C2paBuilderIntent.EDIT)
        ingredient = {"title": f"input{source.suffix}", "relationship": "parentOf"}
        with source.open("rb") as read:
            try:
                builder.add_ingredient(ingredient, _format_of(read), read)
            except c2pa.C2paError:
                # An input that decoders accept may be too damaged for this library, which then finds no manifest in it
                # either.
                read.seek(0)
                builder.add_ingredient(ingredient, _UNKNOWN, read)
        builder.add_action(made.action)
        algorithm = c2pa.C2paSigningAlg[self._claims.algorithm]
        with (
            c2pa.Signer.from_callback(self._signer, algorithm, self._claims.certificates) as by,
            part.open("rb") as read,
            signed.open("w+b") as written,
        ):
            builder.sign(by, form, read, written)
        with signed.open("rb") as read, c2pa.Reader(form, read, context=context) as reader:
            store: dict[str, Any] = msgspec.json.decode(reader.json())
        return store


def _format_of(read: BinaryIO) -> str:
    """The library's name of an input's format, by its first bytes: a suffix may lie or be missing."""
    head = read.read(12)
    read.seek(0)
    for start, form in _STARTS:
        if head.startswith(start):
            return form
    if head[:4] == b"RIFF":
        return _RIFF.get(head[8:], _UNKNOWN)
    return _BRANDS.get(head[8:], "video/mp4") if head[4:8] == b"ftyp" else _UNKNOWN


class ManifestClaim(msgspec.Struct, frozen=True):
    """The facts that a manifest states about how an output was made. It names no path and no value of an option."""

    type: str
    version: str
    options: tuple[str, ...]
    """Names of the options that were given."""

    def manifest(self, suffix: str) -> str:
        """The definition, in JSON, that the library builds the manifest from."""
        definition = {
            "title": f"output{suffix}",
            "claim_generator_info": [{"name": "tasktrail", "version": self.version}],
            "assertions": [],
        }
        return msgspec.json.encode(definition).decode()

    @property
    def action(self) -> dict[str, Any]:
        """Without options the picture is only encoded anew; with options, more may have changed."""
        parameters = {"org.tasktrail.type": self.type, "org.tasktrail.options": list(self.options)}
        return {"action": "c2pa.edited" if self.options else "c2pa.transcoded", "parameters": parameters}


def made_by(run: Run) -> ManifestClaim:
    """The manifest's facts about a run."""
    return ManifestClaim(run.type, version("tasktrail"), tuple(sorted(run.options)))
