"""FastAPI alone, under uvicorn with the loop and the HTTP parser of the API.

    python -m benchmarks.serving.bare_api FOLDER PORT

Its routes are those that `benchmarks.serving.api` measures; each returns the bytes of a file.
"""

from __future__ import annotations

import sys
from pathlib import Path

import uvicorn
from fastapi import FastAPI, Request, Response

JSON = "application/json"


def bare_app(folder: Path) -> FastAPI:
    """Routes that return `read`, `list` and `create` of the folder, which are read once."""
    read, listed, created = ((folder / name).read_bytes() for name in ("read", "list", "create"))
    app = FastAPI()

    @app.get("/v1/edits/{edit_id}")
    async def read_edit(edit_id: str) -> Response:
        return Response(read, media_type=JSON)

    @app.get("/v1/edits")
    async def list_edits(limit: int = 20) -> Response:
        return Response(listed, media_type=JSON)

    @app.post("/v1/edits")
    async def create_edit(request: Request) -> Response:
        await request.body()
        return Response(created, 201, media_type=JSON)

    return app


if __name__ == "__main__":
    uvicorn.run(
        bare_app(Path(sys.argv[1])),
        port=int(sys.argv[2]),
        loop="uvloop",
        http="httptools",
        ws="none",
        log_config=None,
        access_log=False,
        server_header=False,
    )
