"""Write the store of this version, with what its API answers, to `{version}.zip`."""

from __future__ import annotations

import json
import sys
import tempfile
import zipfile
from pathlib import Path

from tests.app.released.test_released import FOLDER, VERSION, Answers, answers
from tests.app.support.worker import Worker
from tests.security.target import Crew
from tests.support.services import api_settings, running_api, running_redis


def main() -> int:
    with tempfile.TemporaryDirectory() as folder, running_redis() as redis:
        settings = api_settings(Path(folder), redis)
        with running_api(settings) as api:
            crew = Crew(Worker(api.store, api.services.live.client))
            names = crew.fill(api.http)
            crew.end_all()
            paths = [f"/v1/edits/{id}" for id in names.edits]
            paths += [f"/v1/exports/{id}" for id in names.exports]
            found: Answers = answers(api, paths)
        root = settings.data / "store"
        with zipfile.ZipFile(FOLDER / f"{VERSION}.zip", "w", zipfile.ZIP_DEFLATED) as written:
            written.writestr("answers.json", json.dumps(found))
            for file in sorted(root.rglob("*")):
                if file.is_file():
                    written.write(file, f"store/{file.relative_to(root)}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
