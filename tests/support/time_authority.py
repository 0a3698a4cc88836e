"""A time authority on loopback: `openssl ts` answers."""

import subprocess
import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import Self

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

_CONFIG = """
[tsa]
default_tsa = us
[us]
serial = {folder}/serial
signer_cert = {folder}/signer.pem
certs = {folder}/root.pem
signer_key = {folder}/signer.key
signer_digest = sha256
default_policy = 1.2.3.4.1
digests = sha256
accuracy = secs:1
ess_cert_id_alg = sha256
"""


def _name(text: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, text)])


class TimeAuthority:
    """One with a root of its own. `changing` may change what it answers, or replace it. `clock`: the signer's name.

    `kind`: the content type of its answers. `location`: it redirects there.
    `endless`: it does not end its answers until it is closed.
    """

    def __init__(
        self,
        folder: Path,
        changing: Callable[[bytes], tuple[int, bytes]] | None = None,
        clock: str = "clock",
        *,
        kind: str = "application/timestamp-reply",
        location: str = "",
        endless: bool = False,
    ) -> None:
        folder.mkdir()
        self._clock = clock
        self.root = folder / "root.pem"
        self._folder = folder
        self._certify()
        (folder / "openssl.cnf").write_text(_CONFIG.format(folder=folder))
        (folder / "serial").write_text("01\n")
        self._closed = threading.Event()
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["content-length"]))
                assert self.headers["content-type"] == "application/timestamp-query"
                status, content = changing(outer.answer(body)) if changing else (200, outer.answer(body))
                self.send_response(302 if location else status)
                if kind:
                    self.send_header("content-type", kind)
                if location:
                    self.send_header("location", location)
                if not endless:
                    self.send_header("content-length", str(len(content)))
                self.end_headers()
                self.wfile.write(content)
                if endless:
                    self.wfile.flush()
                    outer._closed.wait()

            def log_message(self, *_arguments: object) -> None:
                """Nothing."""

        self.server = HTTPServer(("127.0.0.1", 0), Handler)
        threading.Thread(target=self.server.serve_forever, args=(0.01,), daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}/tsr"

    def _certify(self) -> None:
        now = datetime.now(UTC)
        root, signer = (ec.generate_private_key(ec.SECP256R1()) for _ in range(2))
        made = (
            x509.CertificateBuilder()
            .issuer_name(_name("root"))
            .not_valid_before(now - timedelta(days=1))
            .not_valid_after(now + timedelta(days=1))
        )
        above = made.subject_name(_name("root")).public_key(root.public_key()).serial_number(1)
        above = above.add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        usage = x509.KeyUsage(
            digital_signature=False, content_commitment=False, key_encipherment=False, data_encipherment=False,
            key_agreement=False, key_cert_sign=True, crl_sign=True, encipher_only=False, decipher_only=False,
        )  # fmt: skip
        above = above.add_extension(usage, critical=True)
        below = made.subject_name(_name(self._clock)).public_key(signer.public_key()).serial_number(2)
        stamping = x509.ExtendedKeyUsage([ExtendedKeyUsageOID.TIME_STAMPING])
        below = below.add_extension(stamping, critical=True)
        self.root.write_bytes(above.sign(root, SHA256()).public_bytes(Encoding.PEM))
        (self._folder / "signer.pem").write_bytes(below.sign(root, SHA256()).public_bytes(Encoding.PEM))
        key = signer.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
        (self._folder / "signer.key").write_bytes(key)

    def answer(self, request: bytes) -> bytes:
        (self._folder / "request.tsq").write_bytes(request)
        command = [
            "openssl",
            "ts",
            "-reply",
            "-config",
            "openssl.cnf",
            "-queryfile",
            "request.tsq",
            "-out",
            "answer.tsr",
        ]
        subprocess.run(command, cwd=self._folder, check=True, capture_output=True, timeout=30)
        return (self._folder / "answer.tsr").read_bytes()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._closed.set()
        self.server.shutdown()
        self.server.server_close()
