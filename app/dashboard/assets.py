"""Scripts and styles of the dashboard. Their address changes with them, so browsers keep them."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path

from fastapi import Request, Response

from app import receipts
from app.http.files import matches
from models_store.errors import NotFound

PREFIX = "/dashboard/static"
_FOLDER = Path(__file__).parent / "static"
_TYPES = {
    ".js": "text/javascript; charset=utf-8",
    ".css": "text/css; charset=utf-8",
    ".svg": "image/svg+xml",
    ".txt": "text/plain; charset=utf-8",
}
_FOREVER = "public, max-age=31536000, immutable"


@dataclass(frozen=True)
class Assets:
    files: Mapping[str, bytes]
    """By name."""
    version: str
    """Digest of all of them: modules import each other, so they change together."""

    @property
    def base(self) -> str:
        """The path that they lie under."""
        return f"{PREFIX}/{self.version}"

    def response(self, request: Request, version: str, name: str) -> Response:
        """A file; one of another version is not kept.

        Raises:
            NotFound: there is no such file.
        """
        data = self.files.get(name)
        if data is None:
            raise NotFound(f"no such file: {name[:100]}")
        kept = _FOREVER if version == self.version else "no-cache"
        headers = {"ETag": f'"{self.version}"', "Cache-Control": kept}
        if matches(request.headers.get("if-none-match"), headers["ETag"]):
            return Response(status_code=304, headers=headers)
        return Response(data, headers=headers, media_type=_TYPES[Path(name).suffix])


@cache
def assets() -> Assets:
    """All there are, with the style of receipts."""
    paths = [*_FOLDER.iterdir(), receipts.STYLE]
    files = {path.name: path.read_bytes() for path in sorted(paths) if path.suffix in _TYPES}
    digest = hashlib.sha256()
    for name, data in files.items():
        digest.update(f"{name} {len(data)}\n".encode() + data)
    return Assets(files, digest.hexdigest()[:16])
