"""The sign-in page: `/login`, and what a browser without one sees elsewhere."""

from __future__ import annotations

import re

from fastapi import Response

from app.http.pages.html import page

_LOCAL_PATH = re.compile(r"/(?![/\\])[!-~]*")


def login_page(next: str, status: int = 200, *, failed: bool = False) -> Response:
    """The form for a key, which then leads to `next`."""
    response = page("login.html", status, next=local_path(next), failed=failed)
    response.headers["Cache-Control"] = "no-store"
    return response


def local_path(path: str) -> str:
    """`path` if it is one of this server, else the first page's."""
    return path if _LOCAL_PATH.fullmatch(path) else "/"
