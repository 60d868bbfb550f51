"""How a request becomes work: checked as a whole, then written down so that a crash at any point
leaves either nothing or something that a repeat of the request finishes.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from types import MappingProxyType

from pydantic import JsonValue

from app.domain.accounts.quotas import Quotas
from app.domain.behaviors.library import BehaviorLibrary, BehaviorVersion, ResolvedBehavior
from app.domain.edits.checks import check_fit, check_scorers
from app.domain.edits.forecast import HarmForecast, unseen_halving
from app.domain.edits.idempotency import Sender, create_once
from app.domain.edits.imports import Received, source_of
from app.domain.edits.measuring import (
    behavior_of,
    body_behavior,
    delta_bytes,
    directions,
    edits_of,
    seed_of,
)
from app.domain.edits.requests import EditBody, ExportBody, ImportBody, ReceiptBody
from app.domain.variants.names import (
    MAX_TERMS,
    Variants,
    measured_by,
    parents_of,
    require_report,
    suffix_key,
)
from models_store.audit.log import Event
from models_store.errors import Conflict, InvalidRequest, NotFound, PolicyRefused
from models_store.operator.policy import IMPORTED, Policy, direction_of
from models_store.operator.suites import check_suites
from models_store.schemas.behaviors import (
    Behavior,
    BehaviorRef,
    checked,
    reference,
    with_preserved,
)
from models_store.schemas.catalogue import BaseModelSpec
from models_store.schemas.methods import Given, Imported
from models_store.schemas.records import (
    Actor,
    EditSettings,
    ExportDtype,
    ExportSettings,
    Kind,
    Variant,
    WorkRequest,
)
from models_store.schemas.report import Remark
from models_store.schemas.scorers import SCORERS, ScorerInfo
from models_store.work.base_models import BaseModels, ReadyBase, registration
from models_store.work.reservations import Reservations
from models_store.work.store import Place, Work, WorkStore

_BYTES_PER_WEIGHT: Mapping[ExportDtype, float] = {"f32": 4, "f16": 2, "q8_0": 34 / 32}
ClaimId = Callable[[], str]
"""Gives the id that counts."""


@dataclass(frozen=True)
class Submitted:
    work: Work
    replayed: bool
    """An earlier request with the same key had made it."""


@dataclass(frozen=True)
class Examined:
    """What a request for an edit names, found and fit for use."""

    base: ReadyBase
    resolved: ResolvedBehavior
    on_top_of: Variant | None
    rule: str
    """Of the policy, that allows it."""
    warnings: tuple[Remark, ...]
    """What can be known beforehand of its harm."""


class Submission:
    """Puts edits, exports, registrations and behaviours in.

    Raises (all methods):
        InvalidRequest: the request cannot be carried out; every wrong field is named.
        Conflict: `idempotency_key_reused`, `base_model_not_ready`, `edit_not_finished`,
            `suffix_taken`, `base_model_exists`, `base_model_changed`, `parents_missing`.
        NotFound: `no_delta`, `no_report`: an edit that the request names ended without one.
        PolicyRefused: the operator's policy does not allow it.
        QuotaExceeded: the tenant has too much waiting, or stored; not of a repeated request.
    """

    def __init__(
        self,
        work: WorkStore,
        bases: BaseModels,
        behaviors: BehaviorLibrary,
        variants: Variants,
        suffixes: Reservations,
        quotas: Quotas,
        policy: Policy,
        *,
        deadline_seconds: float,
        now: Callable[[], float],
        suites: Collection[str] = (),
        scorers: Mapping[str, ScorerInfo] = SCORERS,
    ) -> None:
        """Args:
        suites: names of the standard suites that there are data for.
        scorers: those that a behaviour may name.
        """
        self._work = work
        self._bases = bases
        self._behaviors = behaviors
        self._variants = variants
        self._suffixes = suffixes
        self._quotas = quotas
        self._policy = policy
        self._forecast = HarmForecast(work, policy)
        self._deadline_seconds = deadline_seconds
        self._now = now
        """The time that deadlines are counted from, Unix seconds."""
        self._suites = suites
        self.scorers = scorers

    def edit(
        self, sender: Sender, body: EditBody | Callable[[], EditBody], sent: JsonValue
    ) -> Submitted:
        """Queue an edit.

        Args:
            body: or what makes it of something else, unless the request is repeated.
            sent: the body as it came.
        """
        given = body

        def make(claim: ClaimId) -> Work:
            body = given if isinstance(given, EditBody) else given()
            examined = self.examine(sender.tenant, sender.actor, body)
            resolved = examined.resolved
            settings = EditSettings(
                method=body.method,
                limits=body.limits,
                effort=body.effort,
                suites=body.suites,
                seed=body.seed,
                suffix=body.suffix,
                metadata=body.metadata,
                on_top_of=examined.on_top_of,
            )
            return self._queue_edit(
                sender,
                claim,
                examined.base,
                settings,
                _without_texts(sent),
                examined.rule,
                resolved.ref,
                with_preserved(resolved.lines, body.preserve),
                warnings=examined.warnings,
            )

        return self._once("edit", sender, make)

    def measurement(self, sender: Sender, body: ReceiptBody, sent: JsonValue) -> Submitted:
        """Queue the measurement of a variant as it is; `sent` is the body as it came."""

        def make(claim: ClaimId) -> Work:
            tenant = sender.tenant
            # Where harm is measured, what no receipt covers gets one that way.
            actor = None if self._policy.margins.prompts else sender.actor
            variant = self._variants.named(tenant, body.variant, "/variant", actor=actor)
            if not variant.terms:
                raise InvalidRequest.at(
                    "/variant", f"{body.variant!r} changes nothing: there is nothing to measure"
                )
            base = self._bases.ready(variant.base_model)
            edits = [self._work.read("edit", tenant, term.edit_id) for term in variant.terms]
            resolved, seed = self._measured_by(tenant, body, base, edits)
            settings = EditSettings(
                method=Given(),
                limits=body.limits,
                effort=body.effort,
                suites=body.suites,
                seed=seed,
                suffix=body.suffix,
                metadata=body.metadata,
                measures=variant,
            )
            recorded: dict[str, JsonValue] = {"seed": seed}
            if body.behavior is None and isinstance(behavior := body_behavior(edits[-1]), str):
                recorded["behavior"] = behavior
            behaviors = tuple(directions(self._work, edits, variant))
            return self._queue_edit(
                sender,
                claim,
                base,
                settings,
                _without_texts({**sent, **recorded} if isinstance(sent, dict) else sent),
                self._rule_for_all(sender, base.id, behaviors),
                resolved.ref,
                with_preserved(resolved.lines, body.preserve),
                announced=delta_bytes(self._work, variant),
                warnings=self._harm_warnings(tenant, sender.actor, base, resolved.ref, behaviors),
            )

        return self._once("edit", sender, make)

    def _measured_by(
        self, tenant: str, body: ReceiptBody, base: ReadyBase, edits: Sequence[Work]
    ) -> tuple[ResolvedBehavior, int]:
        """The behaviour that a request names, else that of the last of the edits; and the seed: if
        the request has none, that of the last edit which was made for this behaviour, so that
        nothing it was fitted on is tested on."""
        if body.behavior is not None:
            as_edit = body.as_edit(base.id, body.behavior)
            resolved = self._behavior(tenant, as_edit)
        else:
            resolved = behavior_of(self._work, edits[-1])
            check_scorers(resolved.behavior, "/behavior", self.scorers)
            as_edit = body.as_edit(base.id, resolved.behavior)
        check_fit(as_edit, resolved, base)
        check_suites(body.suites, self._suites)
        if body.seed is not None:
            return resolved, body.seed
        return resolved, seed_of(edits, resolved.ref)

    def _rule_for_all(self, sender: Sender, base_model: str, behaviors: Iterable[str]) -> str:
        """The names of the rules that allow edits by all these behaviours."""
        tenant, actor = sender.tenant, sender.actor
        rules = [self._rule_for(tenant, actor, base_model, name) for name in behaviors]
        return ", ".join(dict.fromkeys(rules))

    def examine(self, tenant: str, actor: Actor, body: EditBody) -> Examined:
        """All that an edit is checked for before it is queued, but for its suffix."""
        base = self._bases.ready(body.base_model)
        resolved = self._behavior(tenant, body)
        check_fit(body, resolved, base)
        check_suites(body.suites, self._suites)
        below = self._variant_below(tenant, actor, body, base)
        direction = direction_of(body.behavior if isinstance(body.behavior, str) else None)
        rule = self._rule_for(tenant, actor, base.id, direction)
        harm = self._harm_warnings(tenant, actor, base, resolved.ref, [direction])
        warnings = (*harm, *unseen_halving(resolved.behavior))
        return Examined(base, resolved, below, rule, warnings)

    def _harm_warnings(
        self,
        tenant: str,
        actor: Actor,
        base: ReadyBase,
        behavior: BehaviorRef,
        behaviors: Sequence[str],
    ) -> tuple[Remark, ...]:
        return self._forecast.warnings(
            tenant, actor.scopes, base.facts.fingerprint, behavior.sha256, behaviors
        )

    def _rule_for(self, tenant: str, actor: Actor, base_model: str, behavior: str) -> str:
        """The name of the rule by which the tenant may make such an edit.

        Raises:
            PolicyRefused: it may not; that is logged.
        """
        allowed, rule = self._policy.decide(tenant, base_model, behavior)
        with self._work.audit.refusals(tenant, actor, rule=rule):
            if not allowed:
                raise PolicyRefused(
                    f"the rule {rule!r} does not let {tenant} edit {base_model} by the behavior "
                    f"{behavior}"
                )
        return rule

    def reproduce(self, sender: Sender, edit_id: str) -> Submitted:
        """Queue an edit with the settings, the seed and the texts of another one.

        Its suffix stays with the other one.

        Raises:
            NotFound: no such edit; `no_report`, it ended without one.
            Conflict: `edit_not_finished`; `base_model_changed`, other weights are registered now;
                `parents_missing`, an edit that it was fitted on is gone.
            InvalidRequest: it ran a suite that there are no data for any more.
        """

        def make(claim: ClaimId) -> Work:
            original = self._work.read("edit", sender.tenant, edit_id)
            require_report(original)
            earlier = original.request
            base = self._bases.ready(earlier.base_model)
            if base.facts.fingerprint != earlier.base_fingerprint:
                raise Conflict(
                    f"{edit_id} was made for other weights of {base.id} than those registered now",
                    code="base_model_changed",
                )
            settings = earlier.settings
            assert isinstance(settings, EditSettings)
            assert earlier.behavior is not None
            self._require_suites(edit_id, settings.suites)
            self._require_parents(sender.tenant, original)
            if settings.on_top_of is not None:
                self._variants.require_covered(sender.tenant, settings.on_top_of, sender.actor)
            behaviors = [direction_of(body_behavior(original))]
            announced = 0
            if (measured := settings.measures) is not None:
                if not self._policy.margins.prompts:
                    self._variants.require_covered(sender.tenant, measured, sender.actor)
                parts = edits_of(self._work, sender.tenant, measured)
                behaviors = list(directions(self._work, parts, measured))
                delta = original.result.artifact("delta") if original.result is not None else None
                announced = 0 if delta is None else delta.bytes
            rule = self._rule_for_all(sender, base.id, behaviors)
            return self._queue_edit(
                sender,
                claim,
                base,
                settings.model_copy(update={"suffix": None, "reproduces": edit_id}),
                _without_suffix(earlier.body),
                rule,
                earlier.behavior,
                self._work.texts_of(original),
                announced=announced,
                warnings=self._harm_warnings(
                    sender.tenant, sender.actor, base, earlier.behavior, behaviors
                ),
            )

        return self._once("edit", sender, make)

    def export(self, sender: Sender, body: ExportBody, sent: JsonValue) -> Submitted:
        """Queue an export."""

        def make(claim: ClaimId) -> Work:
            variant = self._variants.named(
                sender.tenant,
                body.variant,
                "/variant",
                actor=sender.actor,
                without_parents=body.without_parents,
            )
            if not variant.terms:
                raise InvalidRequest.at(
                    "/variant", f"{body.variant!r} changes nothing: there is nothing to export"
                )
            base = self._bases.ready(variant.base_model)
            settings = ExportSettings(variant=variant, format=body.format, dtype=_dtype(body))
            size = self._size(settings, base)
            with self._quotas.room_for_work(sender.tenant, size):
                request = self._request(sender, claim(), "export", base, settings, sent)
                return self._work.submit(request.model_copy(update={"announced_bytes": size}))

        return self._once("export", sender, make)

    def _size(self, export: ExportSettings, base: ReadyBase) -> int:
        """Of its files, about: whole models are much larger than edits."""
        if export.format == "merged":
            return base.facts.bytes
        if export.dtype is not None:
            return int(base.facts.parameters * _BYTES_PER_WEIGHT[export.dtype])
        return delta_bytes(self._work, export.variant)

    def imported(
        self, sender: Sender, body: ImportBody, sent: JsonValue, files: Sequence[Received]
    ) -> Submitted:
        """Queue an edit that was made elsewhere: of `files`, or of the source in the body."""

        def make(claim: ClaimId) -> Work:
            base = self._bases.ready(body.base_model)
            rule = self._rule_for(sender.tenant, sender.actor, base.id, IMPORTED)
            given = source_of(body.source, files, base, self._bases)
            settings = EditSettings(
                method=Imported(), suffix=body.suffix, metadata=body.metadata, source=given.source
            )
            return self._queue_edit(
                sender,
                claim,
                base,
                settings,
                sent,
                rule,
                files=given.files,
                announced=given.delta_bytes,
            )

        return self._once("edit", sender, make)

    def base_model(self, sender: Sender, spec: BaseModelSpec) -> Submitted:
        """Queue the registration of a base model."""

        def make(claim: ClaimId) -> Work:
            return self._bases.register(
                registration(
                    spec,
                    self._deadline_seconds,
                    actor=sender.actor,
                    id=claim(),
                    now=self._now(),
                )
            )

        return self._once("base_model", sender, make)

    def behavior(
        self, sender: Sender, behavior: Behavior, size: int
    ) -> tuple[BehaviorVersion, bool]:
        """Keep a behaviour, which was uploaded in `size` bytes.

        Returns:
            It; whether it was there already.

        Raises:
            NotFound: an earlier request with the key had made it, and it was deleted.
        """
        tenant = sender.tenant

        def make(claim: ClaimId) -> BehaviorVersion:
            check_scorers(behavior, "", self.scorers)
            sound = checked(behavior, pointer="")
            with self._quotas.room_for_bytes(tenant, size):
                return self._behaviors.add(tenant, claim(), sound, sender.actor)

        return create_once(sender, "behavior", partial(self._behaviors.earlier, tenant), make)

    def _queue_edit(
        self,
        sender: Sender,
        claim: ClaimId,
        base: ReadyBase,
        settings: EditSettings,
        body: JsonValue,
        rule: str,
        behavior: BehaviorRef | None = None,
        texts: bytes | None = None,
        files: Mapping[str, Received] = MappingProxyType({}),
        announced: int = 0,
        warnings: tuple[Remark, ...] = (),
    ) -> Work:
        """Put an edit in that was found in order.

        Args:
            rule: of the policy, which allows it.
            announced: bytes that its delta will have, about; 0 of a fitted one, which is small.
        """
        size = announced + len(texts or b"") + sum(file.size for file in files.values())
        with self._quotas.room_for_work(sender.tenant, size):
            id = claim()
            if settings.suffix is not None:
                self._suffixes.take(sender.tenant, suffix_key(base.id, settings.suffix), id)
            request = self._request(sender, id, "edit", base, settings, body, behavior)
            update: dict[str, object] = {"warnings": warnings}
            if announced:
                update["announced_bytes"] = size
            request = request.model_copy(update=update)
            allowed = Event("policy.allowed", sender.tenant, sender.actor, {"id": id, "rule": rule})
            pieces = {name: file.pieces() for name, file in files.items()}
            return self._work.submit(request, texts, files=pieces, logged=[allowed])

    def _request(
        self,
        sender: Sender,
        id: str,
        kind: Kind,
        base: ReadyBase,
        settings: EditSettings | ExportSettings,
        body: JsonValue,
        behavior: BehaviorRef | None = None,
    ) -> WorkRequest:
        return WorkRequest(
            id=id,
            kind=kind,
            tenant=sender.tenant,
            actor=sender.actor,
            deadline=int(self._now() + self._deadline_seconds),
            pool=base.spec.pool,
            body=body,
            settings=settings,
            base_model=base.id,
            base_fingerprint=base.facts.fingerprint,
            behavior=behavior,
            policy_sha256=self._policy.sha256 if kind == "edit" else None,
        )

    def _once(self, kind: Kind, sender: Sender, make: Callable[[ClaimId], Work]) -> Submitted:
        """Queue what `make` makes, or find what an earlier request with the key has queued."""

        def find(id: str) -> Work | None:
            try:
                return self._work.read(kind, sender.tenant, id)
            except NotFound:
                if self._work.was_deleted(kind, sender.tenant, id):
                    raise
                return None

        return Submitted(*create_once(sender, kind, find, make))

    def _require_suites(self, edit_id: str, suites: Sequence[str]) -> None:
        for name in suites:
            if name not in self._suites:
                # The call has no body that an error could point into.
                raise InvalidRequest(
                    f"{edit_id} ran the suite {name}, which has no data on this server: ask its "
                    "operator to name them, or make a new edit without that suite"
                )

    def _require_parents(self, tenant: str, edit: Work) -> None:
        """Refuse where a delta that the edit was fitted on, or measures, is no longer there."""
        for parent in (*parents_of(edit), *measured_by(edit)):
            if self._work.find(Place("edit", tenant, parent)) is None:
                raise Conflict(
                    f"{edit.id} was made of {parent}, which was deleted: it cannot be made again",
                    code="parents_missing",
                )

    def _behavior(self, tenant: str, body: EditBody) -> ResolvedBehavior:
        if isinstance(body.behavior, str):
            return self._behaviors.find(tenant, body.behavior)
        check_scorers(body.behavior, "/behavior", self.scorers)
        behavior = checked(body.behavior)
        return ResolvedBehavior(behavior, reference(behavior))

    def _variant_below(
        self, tenant: str, actor: Actor, body: EditBody, base: ReadyBase
    ) -> Variant | None:
        if body.on_top_of is None:
            return None
        variant = self._variants.named(tenant, body.on_top_of, "/on_top_of", actor=actor)
        if variant.base_model != base.id:
            raise InvalidRequest.at(
                "/on_top_of",
                f"{body.on_top_of!r} is a variant of {variant.base_model}, not of {base.id}",
            )
        if len(variant.terms) >= MAX_TERMS:
            raise InvalidRequest.at(
                "/on_top_of", f"a variant has at most {MAX_TERMS} edits, so this one takes no more"
            )
        return variant if variant.terms else None


def _without_suffix(body: JsonValue) -> JsonValue:
    if not isinstance(body, dict):
        return body
    return {name: value for name, value in body.items() if name != "suffix"}


def _without_texts(sent: JsonValue) -> JsonValue:
    """The body as it came, but with their number for texts given in place: see `texts.jsonl`."""
    if not isinstance(sent, dict):
        return sent
    behavior = sent.get("behavior")
    if isinstance(behavior, dict):
        sent = {**sent, "behavior": {name: _short(name, behavior[name]) for name in behavior}}
    return {name: _short(name, value) for name, value in sent.items()}


def _short(name: str, value: JsonValue) -> JsonValue:
    if isinstance(value, list) and name in ("undesired", "desired", "prompts", "preserve"):
        return f"{len(value)} items"
    return value


def _dtype(body: ExportBody) -> ExportDtype | None:
    if body.format == "merged-gguf":
        return body.dtype or "f16"
    if body.dtype is not None:
        raise InvalidRequest.at(
            "/dtype", f"a {body.format} export has no choice of dtype; merged-gguf has"
        )
    return None
