"""The owner of a data folder, as tests know him: a secret that they put into the folder, and how it is shown."""

from pathlib import Path

SECRET = "the-secret-of-the-tests-0123456789"
AUTH = {"authorization": f"Bearer {SECRET}"}
LINE = f"Authorization: Bearer {SECRET}\r\n"
"""Of a raw request."""


def secret_file(folder: Path) -> Path:
    """The file with the secret, in a folder."""
    path = folder / "http-token"
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(SECRET)
    return path
