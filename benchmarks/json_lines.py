"""Records in a file, a JSON object a line, appended as they are made: interrupted runs continue."""

from __future__ import annotations

from pathlib import Path
from typing import Generic, TypeVar

from pydantic import TypeAdapter, ValidationError

from models_store.errors import InvalidRequest

R = TypeVar("R")


class JsonLines(Generic[R]):
    """A file of records of one type."""

    def __init__(self, path: Path, kind: type[R]) -> None:
        """Read the file, if there is one; an incomplete last line is dropped.

        Raises:
            InvalidRequest: a line is not such a record.
        """
        self.path = path
        self.records: list[R] = []
        self._adapter = TypeAdapter(kind)
        if not path.exists():
            return
        data = path.read_bytes()
        whole = data[: data.rfind(b"\n") + 1]
        if len(whole) < len(data):
            path.write_bytes(whole)
        for number, line in enumerate(whole.splitlines(), 1):
            try:
                self.records.append(self._adapter.validate_json(line))
            except ValidationError as error:
                raise InvalidRequest(
                    f"{path}, line {number}: not a row of this table "
                    f"({error.errors()[0]['msg']}); name another file with --out"
                ) from error

    def append(self, record: R) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("ab") as file:
            file.write(self._adapter.dump_json(record) + b"\n")
        self.records.append(record)
