"""Certificates as no authority makes them."""

import ssl

_THIRD, _NINTH = (b"\xa0\x03\x02\x01" + bytes([version]) for version in (2, 8))
_END = "-----END CERTIFICATE-----\n"


def of_ninth_version(text: str) -> str:
    """The text (PEM), with its first certificate of a version that there is not."""
    begin, end = text.index("-----BEGIN CERTIFICATE"), text.index(_END) + len(_END)
    content = ssl.PEM_cert_to_DER_cert(text[begin:end])
    assert content.count(_THIRD) == 1
    return text[:begin] + ssl.DER_cert_to_PEM_cert(content.replace(_THIRD, _NINTH)) + text[end:]
