"""The owner of a data folder in tests: a secret that they put into the folder, and how it is shown."""

from pathlib import Path

SECRET = "the-secret-of-the-tests-0123456789"
AUTH = {"authorization": f"Bearer {SECRET}"}
LINE = f"Authorization: Bearer {SECRET}\r\n"
"""The header line of a raw request."""


def secret_file(folder: Path) -> Path:
    """Write the file with the secret into a folder."""
    path = folder / "http-token"
    if not path.exists():
        path.touch(mode=0o600)
        path.write_text(SECRET)
    return path
