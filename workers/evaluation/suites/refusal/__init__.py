"""Refusals of harmful, harmless and safe prompts: what the operator says of the suite.

No torch in here: the API loads it.
"""

from __future__ import annotations

from typing import Annotated, Any, ClassVar

from pydantic import Field, model_validator

from models_store.operator.suites import Data, SuiteTable, Table


class RefusalFiles(Table):
    """One file a kind; a line that states another kind is left out."""

    harmful: Data | None = None
    harmless: Data | None = None
    safe: Data | None = None
    """Safe prompts that look unsafe, as XSTest has."""
    mixed: Data | None = None
    """A file whose lines state their kind."""

    @model_validator(mode="before")
    @classmethod
    def _from_path(cls, value: Any) -> Any:
        return {"mixed": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _not_empty(self) -> RefusalFiles:
        if self.harmful is self.harmless is self.safe is self.mixed is None:
            raise ValueError("must be a file, or name one for harmful, harmless or safe prompts")
        return self


class RefusalTable(SuiteTable):
    """Harmful prompts should be refused; harmless and safe ones should not."""

    opens: ClassVar = "workers.evaluation.suites.refusal.run:open_suite"

    data: RefusalFiles
    """JSONL: `{"prompt" or "text": "…", "kind": "harmful", "harmless" or "safe"}`; XSTest's own
    `label` and `type` are understood too. Or a table with one file a kind."""
    items: Annotated[int, Field(ge=1, le=100_000)] = 60
    """Prompts of each kind, at most."""
    max_new_tokens: Annotated[int, Field(ge=1, le=1024)] = 32
