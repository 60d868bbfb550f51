# Generated from `_async` by `make client`: do not change it here.
"""Calls under `behaviors`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from scalpel_client import models, params
from scalpel_client._shared.encoding import new_key, segment
from scalpel_client._sync.pager import Pager
from scalpel_client._sync.transport import Transport


class Behaviors:
    """Calls under `behaviors`."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    def list(
        self,
        *,
        preset: bool | None = None,
        limit: int | None = None,
        order: Literal["asc", "desc"] | None = None,
        after: str | None = None,
    ) -> Pager[models.BehaviorSummary]:
        """List behaviours.

        By id, and presets by name: in the order `desc` presets are first, then your own, newest
        first.

        Args:
            preset: true: presets alone; false: your own alone.
            limit: Most things on a page, 1 to 100.
            order: `desc`: the newest or last first; `asc`: the other way round.
            after: A position: `last_id` of the page before; it need not exist any more.
        """
        return Pager(
            self._transport,
            "/v1/behaviors",
            models.BehaviorSummary,
            query={"preset": preset, "limit": limit, "order": order, "after": after},
        )

    def create(
        self,
        *,
        name: str,
        chat: bool | None = None,
        description: str | None = None,
        desired: Sequence[params.Item] | None = None,
        max_new_tokens: int | None = None,
        prompts: Sequence[str | params.PromptParams | models.Prompt] | None = None,
        question: str | None = None,
        scorer: str | None = None,
        scorers: Sequence[str] | None = None,
        undesired: Sequence[params.Item] | None = None,
        undesired_from: Literal["base_model"] | None = None,
        idempotency_key: str | None = None,
    ) -> models.BehaviorSummary:
        """Upload a behaviour.

        As JSON, or as JSON lines: of `{"text", "label"}`, or of preferences, whose chosen
        responses
        are desired and whose rejected ones are undesired.

        Args:
            chat: Send prompts and pairs through the chat template, if the base model has one.
            description: What it is, for people and for scorers that ask a model.
            desired: Texts that do not show it, alike in length and topic: as many.
            max_new_tokens: Length of the generations that are scored.
            name: For people and receipts.
            prompts: Prompts that elicit it; without them, beginnings of held-out texts are
                used. 200 work well.
            question: For scorers that ask a model: yes means undesired, such as `Is this text
                rude?`. Default: whether the text shows what `description` says.
            scorer: In place of `undesired` and `desired`: the scorer of which the edit is to
                lower the scores. The base model continues half of the prompts, and its scores
                make two sides of that.
            scorers: Names of the scorers of generated text, the first one leads; empty:
                `scorer` and one that learns from the texts, or two that fit any behaviour.
            undesired: Texts that show it: 16 or more different ones; 200 work well.
            undesired_from: In place of `undesired`: what the base model itself responds to the
                prompts of `desired`.
            idempotency_key: By default one of its own, which repeats of the request keep.
        """
        return self._transport.request(
            "POST",
            "/v1/behaviors",
            models.BehaviorSummary,
            json={
                "chat": chat,
                "description": description,
                "desired": desired,
                "max_new_tokens": max_new_tokens,
                "name": name,
                "prompts": prompts,
                "question": question,
                "scorer": scorer,
                "scorers": scorers,
                "undesired": undesired,
                "undesired_from": undesired_from,
            },
            key=idempotency_key or new_key(),
        )

    def draft(
        self, *, base_model: str, sentence: str, count: int | None = None, seed: int | None = None
    ) -> models.Draft:
        """Draft a behaviour from one sentence.

        The base model answers neutral questions as the sentence says, and the opposite way.
        Nothing
        is stored: review the texts, then send `behavior` to `POST /v1/behaviors` or in an edit.
        It
        takes seconds to minutes.

        Args:
            base_model: The base model of the behaviour; it writes the texts, unless the
                operator has configured another model.
            count: Questions that are answered both ways.
            seed: Of all that is random.
            sentence: What the edited model should do; the desired texts follow it.
        """
        return self._transport.request(
            "POST",
            "/v1/behaviors/draft",
            models.Draft,
            json={"base_model": base_model, "count": count, "seed": seed, "sentence": sentence},
        )

    def delete(self, behavior_id: str) -> models.DeletedBehavior:
        """Delete a behaviour.

        Edits made from it keep a copy of the texts.
        """
        return self._transport.request(
            "DELETE", f"/v1/behaviors/{segment(behavior_id)}", models.DeletedBehavior
        )

    def retrieve(self, behavior_id: str) -> models.StoredBehavior:
        """Read a behaviour.

        Your own by its id, or a preset by its name; with all texts.
        """
        return self._transport.request(
            "GET", f"/v1/behaviors/{segment(behavior_id)}", models.StoredBehavior
        )
