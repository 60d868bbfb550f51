"""Write the generated files of the client: `python -m codegen openapi.json FOLDER`."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path

from codegen.blocking import blocking
from codegen.calls import calls
from codegen.document import Document
from codegen.types import models, params

_MARK = "# Generated from {source} by `make client`: do not change it here.\n"
_CONFIGURATION = Path(__file__).parents[2] / "pyproject.toml"


def write(openapi: Path, package: Path) -> None:
    """Write `models.py`, `params.py`, `_async/calls/` and all of `_sync/` of the package."""
    document = Document(json.loads(openapi.read_text(encoding="utf-8")))
    generated = {"models.py": models(document), "params.py": params(document)}
    generated |= {f"_async/calls/{name}.py": text for name, text in calls(document).items()}
    generated["_async/calls/__init__.py"] = '"""The calls of the API, as it describes them."""\n'
    _write_all(package, generated, "openapi.json")
    halves = {
        f"_sync/{path.relative_to(package / '_async')}": blocking(path.read_text(encoding="utf-8"))
        for path in sorted((package / "_async").rglob("*.py"))
    }
    _write_all(package, halves, "`_async`")


def _write_all(package: Path, sources: Mapping[str, str], origin: str) -> None:
    for name, text in sources.items():
        file = package / name
        file.parent.mkdir(parents=True, exist_ok=True)
        unmarked = text.partition("\n")[2] if text.startswith("# Generated") else text
        file.write_text(_MARK.format(source=origin) + unmarked, encoding="utf-8")
    files = [str(package / name) for name in sources]
    ruff = [sys.executable, "-m", "ruff"]
    common = ["--quiet", "--config", str(_CONFIGURATION)]
    for command in (["format"], ["check", "--fix", "--unsafe-fixes"], ["format"]):
        subprocess.run([*ruff, *command, *common, *files], check=True)


if __name__ == "__main__":
    write(Path(sys.argv[1]), Path(sys.argv[2]))
