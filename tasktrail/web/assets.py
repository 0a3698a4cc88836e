"""The pages' style, script and icon, from memory. Their addresses name their content, so browsers can keep them."""

import gzip
import re
from hashlib import sha256
from pathlib import Path
from typing import Any

import msgspec
from litestar import Request, Response, get
from litestar.params import FromPath

from ..errors import UnknownRoute
from ..http.permissions import PUBLIC

_FOLDER = Path(__file__).parent / "static"
_KINDS = {".css": "text/css", ".js": "text/javascript; charset=utf-8", ".svg": "image/svg+xml"}
_FOREVER = "public, max-age=31536000, immutable"


class Asset(msgspec.Struct, frozen=True):
    """A file, as it is sent."""

    kind: str
    plain: bytes
    packed: bytes
    version: str


def _read(path: Path) -> Asset:
    content = path.read_bytes()
    return Asset(_KINDS[path.suffix], content, gzip.compress(content, mtime=0), sha256(content).hexdigest()[:12])


_ASSETS = {path.name: _read(path) for path in _FOLDER.iterdir() if path.suffix in _KINDS}


def asset(name: str) -> str:
    """Return the address of a file in `static`."""
    return f"/static/{_ASSETS[name].version}/{name}"


@get("/static/{version:str}/{name:str}", include_in_schema=False, needs=PUBLIC)
async def get_asset(request: Request[Any, Any, Any], version: FromPath[str], name: FromPath[str]) -> Response[bytes]:
    """Return a file. Under an old address, which a page from before an upgrade may have, it is not kept."""
    asset = _ASSETS.get(name)
    if asset is None:
        raise UnknownRoute(f"Nothing answers at {request.url.path}")
    headers = {
        "cache-control": _FOREVER if version == asset.version else "no-cache",
        "etag": f'"{asset.version}"',
        "vary": "accept-encoding",
    }
    if request.headers.get("if-none-match") == headers["etag"]:
        return Response(b"", status_code=304, headers=headers, media_type=asset.kind)
    packed = re.search(r"\bgzip\b(?!\s*;\s*q=0(\.0*)?\s*(,|$))", request.headers.get("accept-encoding", ""))
    if packed:
        headers["content-encoding"] = "gzip"
    return Response(asset.packed if packed else asset.plain, headers=headers, media_type=asset.kind)
