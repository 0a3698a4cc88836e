"""The key that signs the manifests of outputs, and the certificates that say whose key it is."""

from importlib.util import find_spec
from pathlib import Path
from typing import TypeAlias

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ec import ECDSA, EllipticCurvePrivateKey
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.hazmat.primitives.hashes import SHA256, SHA384
from cryptography.hazmat.primitives.serialization import load_pem_private_key

from ..events.errors import ConfigurationError
from .manifests import Claims

_Key: TypeAlias = EllipticCurvePrivateKey | Ed25519PrivateKey
_CURVES = {"secp256r1": ("ES256", SHA256, 32), "secp384r1": ("ES384", SHA384, 48)}
"""Curve → the algorithm, its hash, and the bytes of a coordinate."""


def read_claims(certificate: str, key_file: str) -> Claims:
    """Read the configured key and certificates. Raises `ConfigurationError`."""
    if find_spec("c2pa") is None:
        raise ConfigurationError(
            "c2pa_certificate is set, and the package c2pa-python is not installed",
            field="c2pa_certificate",
            remedy="Install tasktrail[c2pa].",
        )
    try:
        chain = Path(certificate).read_text(encoding="ascii")
        signer, *above = x509.load_pem_x509_certificates(chain.encode())
        public = signer.public_key()
        key = _key_in(key_file)
    except (OSError, ValueError, TypeError, x509.InvalidVersion, UnsupportedAlgorithm) as error:
        raise ConfigurationError(
            f"c2pa_certificate and c2pa_key cannot be used: {error}",
            field="c2pa_certificate",
            remedy="Name a chain of certificates in PEM, the signer's first, and its key: P-256, P-384 or Ed25519.",
        ) from error
    if public != key.public_key():
        raise ConfigurationError(
            "c2pa_key is not the key of the first certificate in c2pa_certificate",
            field="c2pa_key",
            remedy="Name the key that belongs to the signer's certificate.",
        )
    algorithm = "ED25519" if isinstance(key, Ed25519PrivateKey) else _CURVES[key.curve.name][0]
    chained = [signer, *above]
    return Claims(
        chain,
        key_file,
        algorithm,
        begins=max(one.not_valid_before_utc for one in chained),
        ends=min(one.not_valid_after_utc for one in chained),
    )


def signature(key_file: str, content: bytes) -> bytes:
    """The signature of some bytes in the form that COSE uses. Raises `OSError`, `ValueError`."""
    key = _key_in(key_file)
    if isinstance(key, Ed25519PrivateKey):
        return key.sign(content)
    _, digest, width = _CURVES[key.curve.name]
    r, s = decode_dss_signature(key.sign(content, ECDSA(digest())))
    return r.to_bytes(width) + s.to_bytes(width)


def _key_in(path: str) -> _Key:
    key = load_pem_private_key(Path(path).read_bytes(), None)
    if isinstance(key, Ed25519PrivateKey):
        return key
    if isinstance(key, EllipticCurvePrivateKey) and key.curve.name in _CURVES:
        return key
    raise ValueError(f"{path} holds a key of another kind")
