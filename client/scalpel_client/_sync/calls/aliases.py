# Generated from `_async` by `make client`: do not change it here.
"""Calls under `aliases`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from scalpel_client import models, params
from scalpel_client._shared.encoding import segment
from scalpel_client._sync.pager import Pager
from scalpel_client._sync.transport import Transport


class Aliases:
    """Calls under `aliases`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(
        self,
        *,
        limit: int | None = None,
        order: Literal["asc", "desc"] | None = None,
        after: str | None = None,
    ) -> Pager[models.AliasSummary]:
        """List aliases.

        Ordered by name.

        Args:
            limit: Most things on a page, 1 to 100.
            order: `desc`: the newest or last first; `asc`: the other way round.
            after: A position: `last_id` of the page before; it need not exist any more.
        """
        return Pager(
            self._transport,
            "/v1/aliases",
            models.AliasSummary,
            query={"limit": limit, "order": order, "after": after},
        )

    def delete(self, name: str) -> models.DeletedAlias:
        """Delete an alias.

        Its history stays; the name can be used again.
        """
        return self._transport.request(
            "DELETE", f"/v1/aliases/{segment(name)}", models.DeletedAlias
        )

    def retrieve(self, name: str) -> models.Alias:
        """Read an alias and its history.

        With its newest versions.
        """
        return self._transport.request("GET", f"/v1/aliases/{segment(name)}", models.Alias)

    def put(
        self,
        name: str,
        *,
        variant: str,
        shares: Sequence[params.ShareParams | models.ShareBody] | None = None,
        without_parents: bool | None = None,
    ) -> models.Alias:
        """Make or switch an alias.

        Requests that begin after the response get the new variant.

        Args:
            shares: Shares of requests for other variants; the rest goes to `variant`.
            variant: The variant that the alias stands for.
            without_parents: Leave out parent edits that the variant does not name.
        """
        return self._transport.request(
            "PUT",
            f"/v1/aliases/{segment(name)}",
            models.Alias,
            json={"shares": shares, "variant": variant, "without_parents": without_parents},
        )

    def history(
        self,
        name: str,
        *,
        limit: int | None = None,
        order: Literal["asc", "desc"] | None = None,
        after: int | None = None,
    ) -> Pager[models.AliasVersion]:
        """List the versions of an alias.

        Newest first by default; those of a deleted alias too.

        Args:
            limit: Most things on a page, 1 to 100.
            order: `desc`: the newest or last first; `asc`: the other way round.
            after: A number.
        """
        return Pager(
            self._transport,
            f"/v1/aliases/{segment(name)}/history",
            models.AliasVersion,
            query={"limit": limit, "order": order, "after": after},
        )

    def roll_back_alias(self, name: str, *, version: int | None = None) -> models.Alias:
        """Roll back an alias.

        Adds a version equal to an older one; the history is kept.

        Args:
            version: Null: the newest version that differs from the present one.
        """
        return self._transport.request(
            "POST", f"/v1/aliases/{segment(name)}/rollback", models.Alias, json={"version": version}
        )
