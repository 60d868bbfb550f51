# Generated from `_async` by `make client`: do not change it here.
"""Calls under `edits`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Literal

from scalpel_client import models, params
from scalpel_client._shared.encoding import metadata_query, new_key, segment
from scalpel_client._sync.download import Download
from scalpel_client._sync.pager import Pager
from scalpel_client._sync.transport import Transport


class Edits:
    """Calls under `edits`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(
        self,
        *,
        status: Literal["queued", "running", "succeeded", "failed", "canceled"] | None = None,
        base_model: str | None = None,
        suffix: str | None = None,
        behavior: str | None = None,
        limit: int | None = None,
        order: Literal["asc", "desc"] | None = None,
        after: str | None = None,
        metadata: Mapping[str, str] | None = None,
    ) -> Pager[models.Edit]:
        """List edits.

        Newest first by default. A page is chosen from at most 1,000 edits: with filters it may
        have
        fewer than `limit`, or none, while `has_more` is true. By `suffix` edits are found at
        once,
        however many there are.

        Args:
            status: Only those of this status.
            base_model: Only those of this base model.
            suffix: Only edits that were given this suffix.
            behavior: Only edits by this behaviour: a preset's name, a `beh_…` id, or the name
                of texts in the request.
            limit: Most things on a page, 1 to 100.
            order: `desc`: the newest or last first; `asc`: the other way round.
            after: An id.
            metadata: Only those with these.
        """
        return Pager(
            self._transport,
            "/v1/edits",
            models.Edit,
            query={
                "status": status,
                "base_model": base_model,
                "suffix": suffix,
                "behavior": behavior,
                "limit": limit,
                "order": order,
                "after": after,
                **metadata_query(metadata),
            },
        )

    def create(
        self,
        *,
        base_model: str,
        behavior: str | params.BehaviorParams | models.Behavior,
        effort: Literal["quick", "standard", "thorough"] | None = None,
        limits: params.LimitsParams | models.Limits | None = None,
        metadata: Mapping[str, str] | None = None,
        method: params.Method | None = None,
        on_top_of: str | None = None,
        preserve: Sequence[params.Item] | None = None,
        seed: int | None = None,
        suffix: str | None = None,
        suites: Sequence[str] | None = None,
        idempotency_key: str | None = None,
    ) -> models.Edit:
        """Queue an edit.

        Answered once it is stored: from then on it is made, whatever process dies. `warnings`
        say
        what can be foreseen of its harm.

        Args:
            base_model: The id of a base model in the catalogue.
            behavior: What to change: a preset's name, an uploaded behaviour's id, or the texts
                themselves.
            effort: How much is tried and measured: a few minutes, ten minutes, or longer.
            limits: Bounds on the damage; what is left out has its default.
            metadata: Your own strings, to filter by.
            method: A method with its settings, or its name alone; by default `auto`, a search.
            on_top_of: A variant of the same base model that the edit is fitted on, in place of
                the base.
            preserve: Texts that must not change; also bounded by `max_kl`.
            seed: Of all that is random: the same request with the same seed makes the same
                edit.
            suffix: A name for the edit among those of its base model: `base:suffix` serves it.
            suites: Standard suites to run on the base and on the edit, by name.
            idempotency_key: By default one of its own, which repeats of the request keep.
        """
        return self._transport.request(
            "POST",
            "/v1/edits",
            models.Edit,
            json={
                "base_model": base_model,
                "behavior": behavior,
                "effort": effort,
                "limits": limits,
                "metadata": metadata,
                "method": method,
                "on_top_of": on_top_of,
                "preserve": preserve,
                "seed": seed,
                "suffix": suffix,
                "suites": suites,
            },
            key=idempotency_key or new_key(),
        )

    def estimate(
        self,
        *,
        base_model: str,
        behavior: str | params.BehaviorParams | models.Behavior,
        effort: Literal["quick", "standard", "thorough"] | None = None,
        limits: params.LimitsParams | models.Limits | None = None,
        metadata: Mapping[str, str] | None = None,
        method: params.Method | None = None,
        on_top_of: str | None = None,
        preserve: Sequence[params.Item] | None = None,
        seed: int | None = None,
        suffix: str | None = None,
        suites: Sequence[str] | None = None,
    ) -> models.Estimate:
        """Estimate an edit.

        Time and memory of the edit, and how separable its texts are. The body is that of `POST
        /v1/edits`; nothing is queued. A generator reads up to 200 texts of each side, which
        takes some
        seconds.

        Args:
            base_model: The id of a base model in the catalogue.
            behavior: What to change: a preset's name, an uploaded behaviour's id, or the texts
                themselves.
            effort: How much is tried and measured: a few minutes, ten minutes, or longer.
            limits: Bounds on the damage; what is left out has its default.
            metadata: Your own strings, to filter by.
            method: A method with its settings, or its name alone; by default `auto`, a search.
            on_top_of: A variant of the same base model that the edit is fitted on, in place of
                the base.
            preserve: Texts that must not change; also bounded by `max_kl`.
            seed: Of all that is random: the same request with the same seed makes the same
                edit.
            suffix: A name for the edit among those of its base model: `base:suffix` serves it.
            suites: Standard suites to run on the base and on the edit, by name.
        """
        return self._transport.request(
            "POST",
            "/v1/edits/estimate",
            models.Estimate,
            json={
                "base_model": base_model,
                "behavior": behavior,
                "effort": effort,
                "limits": limits,
                "metadata": metadata,
                "method": method,
                "on_top_of": on_top_of,
                "preserve": preserve,
                "seed": seed,
                "suffix": suffix,
                "suites": suites,
            },
        )

    def delete(self, edit_id: str) -> models.DeletedEdit:
        """Delete an edit and its files.

        With the exports that hold it. One that has not ended is canceled.
        """
        return self._transport.request(
            "DELETE", f"/v1/edits/{segment(edit_id)}", models.DeletedEdit
        )

    def retrieve(self, edit_id: str, *, wait: float | None = None) -> models.Edit:
        """Read an edit.

        With its points. `wait` answers as soon as it has ended.

        Args:
            wait: Wait until it has finished, for at most so many seconds.
        """
        return self._transport.request(
            "GET", f"/v1/edits/{segment(edit_id)}", models.Edit, query={"wait": wait}
        )

    def cancel(self, edit_id: str) -> models.Edit:
        """Cancel an edit.

        Again has no further effect; 409 if it has succeeded or failed.
        """
        return self._transport.request("POST", f"/v1/edits/{segment(edit_id)}/cancel", models.Edit)

    def compare(
        self,
        edit_id: str,
        *,
        prompts: Sequence[str],
        chat: bool | None = None,
        max_tokens: int | None = None,
        seed: int | None = None,
        strengths: Sequence[float] | None = None,
        temperature: float | None = None,
    ) -> models.Comparison:
        """Compare responses at several strengths.

        Parent edits are applied too.

        Args:
            chat: Send the prompts as a user's messages; default: if the base model has a chat
                template.
            max_tokens: Most tokens of a response.
            prompts: What is answered, up to 32.
            seed: All responses use the same random numbers.
            strengths: 0 is the base model.
            temperature: From 0 (always the likeliest token) to 2.
        """
        return self._transport.request(
            "POST",
            f"/v1/edits/{segment(edit_id)}/compare",
            models.Comparison,
            json={
                "chat": chat,
                "max_tokens": max_tokens,
                "prompts": prompts,
                "seed": seed,
                "strengths": strengths,
                "temperature": temperature,
            },
        )

    def delta(self, edit_id: str, *, point: int | None = None) -> Download:
        """Download an edit's delta.

        The weight difference of the selected point, or of another one.

        Args:
            point: A measured trial in place of the selected one.
        """
        return Download(
            self._transport, f"/v1/edits/{segment(edit_id)}/delta", query={"point": point}
        )

    def list_events(
        self,
        edit_id: str,
        *,
        limit: int | None = None,
        order: Literal["asc", "desc"] | None = None,
        after: int | None = None,
    ) -> Pager[models.Event]:
        """Follow an edit.

        A list; or, with `Accept: text/event-stream`, a stream up to the final event, from after
        `Last-Event-ID` on.

        Args:
            limit: Most things on a page, 1 to 100.
            order: `desc`: the newest or last first; `asc`: the other way round.
            after: A number.
        """
        return Pager(
            self._transport,
            f"/v1/edits/{segment(edit_id)}/events",
            models.Event,
            query={"limit": limit, "order": order, "after": after},
        )

    def reproduce(self, edit_id: str, *, idempotency_key: str | None = None) -> models.Edit:
        """Reproduce an edit.

        A new edit with the settings, seed and texts of this one, on the same weights. Its
        report
        says whether the two deltas are equal bit for bit, and otherwise what differs.

        Args:
            idempotency_key: By default one of its own, which repeats of the request keep.
        """
        return self._transport.request(
            "POST",
            f"/v1/edits/{segment(edit_id)}/reproduce",
            models.Edit,
            key=idempotency_key or new_key(),
        )

    def texts(self, edit_id: str) -> Download:
        """Download an edit's texts.

        Its behaviour as JSON lines: all but the texts, then one text a line. A behaviour that
        names
        a scorer has none until the edit has made them.
        """
        return Download(self._transport, f"/v1/edits/{segment(edit_id)}/texts")
