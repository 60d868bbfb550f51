"""Commands that show a list of the API, declared by its path and columns."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Annotated, Any

import typer

from app.cli.console import Column, notes, print_json, print_table
from app.cli.options import AsJson, Service, spread

Limit = Annotated[int, typer.Option("--limit", "-n", min=1, help="How many.")]


@dataclass(frozen=True)
class Listing:
    """One list."""

    path: str
    columns: Sequence[Column]
    nothing: str
    """What is said where there is nothing."""
    filters: Mapping[str, str] = field(default_factory=dict)
    """As the call takes them."""

    def show(self, page: Any, *, as_json: bool) -> None:
        """A page as a table, or as it is."""
        if as_json:
            print_json(page)
        elif page["data"]:
            print_table(self.columns, page["data"])
            if page.get("has_more"):
                notes.print("there are more: see --limit", style="dim")
        else:
            notes.print(self.nothing, markup=False, style="dim")

    def command(self, help: str) -> Callable[..., None]:
        """A command that shows it; `help` is its line in the help."""

        @spread
        def listed(
            limit: Limit = 20,
            as_json: AsJson = False,
            service: Service = Service(),
        ) -> None:
            with service.connect() as client:
                self.show(client.page(self.path, limit, self.filters), as_json=as_json)

        listed.__doc__ = help
        return listed
