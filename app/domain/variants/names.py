"""Names of variants: how they are read, and what stands behind them.

variant = base [":" term *("+" term)]
term    = (edit id / suffix) ["~" point] ["@" number]
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from app.domain.variants.aliases import Aliases
from app.domain.variants.covered import not_covered
from models_store.errors import Conflict, InvalidRequest, Malformed, NotFound, PolicyRefused
from models_store.ids import BASE_ID_PATTERN, SUFFIX_PATTERN
from models_store.operator.policy import UNSAFE, Policy
from models_store.schemas.records import Actor, Artifact, DeltaRef, EditSettings, Variant
from models_store.work.base_models import BaseModels, ReadyBase
from models_store.work.reservations import Reservations
from models_store.work.store import Work, WorkStore

MAX_TERMS = 8
MAX_STRENGTH = 4.0
SUFFIXES = "suffixes"
"""Folder of their reservations."""
_RETRY_SECONDS = 5
_TERM = re.compile(
    r"(?P<edit>edit_[0-9A-Z]{26}|[a-z0-9][a-z0-9-]{0,39})"
    r"(?:~(?P<point>[0-9]{1,6}))?"
    r"(?:@(?P<strength>-?(?:[0-9]{1,9}(?:\.[0-9]{0,9})?|\.[0-9]{1,9})))?"
)


class InvalidVariant(Malformed):
    """A name that no variant can have."""

    code = "invalid_variant"


class UnknownVariant(NotFound):
    """A well-formed name that nothing stands behind."""

    code = "model_not_found"


@dataclass(frozen=True)
class TermName:
    edit: str
    """An edit's id or suffix."""
    point: int | None = None
    strength: float = 1.0

    def __str__(self) -> str:
        point = "" if self.point is None else f"~{self.point}"
        return f"{self.edit}{point}" + ("" if self.strength == 1 else f"@{_plain(self.strength)}")


@dataclass(frozen=True)
class VariantName:
    base: str
    terms: tuple[TermName, ...] = ()

    def __str__(self) -> str:
        return self.base + (":" if self.terms else "") + "+".join(map(str, self.terms))


def _plain(number: float) -> str:
    """Without an exponent, whose sign would read as the start of a term."""
    return f"{number:.9f}".rstrip("0").rstrip(".")


def parse(name: str) -> VariantName:
    """Read a variant's name.

    Raises:
        InvalidVariant: it does not follow the grammar, a strength is outside [-4, 4], there are
            more than 8 terms, or an edit is there twice.
    """
    base, colon, rest = name.partition(":")
    if not BASE_ID_PATTERN.fullmatch(base):
        raise InvalidVariant(
            f"{name[:200]!r} is no variant: write base, base:edit or base:edit@0.6+edit@-1"
        )
    terms = tuple(_parse_term(term, name) for term in rest.split("+")) if colon else ()
    if len(terms) > MAX_TERMS:
        raise InvalidVariant(f"a variant has at most {MAX_TERMS} edits, not {len(terms)}")
    _refuse_repeats([term.edit for term in terms])
    return VariantName(base, terms)


def _parse_term(text: str, name: str) -> TermName:
    match = _TERM.fullmatch(text)
    if match is None:
        raise InvalidVariant(
            f"in {name[:200]!r}, {text[:100]!r} is no term: write an edit's id or suffix, then "
            "optionally ~point and @strength, such as edit_…~2@0.6"
        )
    strength = float(match["strength"] or 1)
    if abs(strength) > MAX_STRENGTH:
        raise InvalidVariant(
            f"the strength {match['strength']} is outside [-{MAX_STRENGTH:g}, {MAX_STRENGTH:g}]"
        )
    point = match["point"]
    return TermName(match["edit"], None if point is None else int(point), strength)


def _refuse_repeats(edits: Sequence[str]) -> None:
    for edit in edits:
        if edits.count(edit) > 1:
            raise InvalidVariant(f"the edit {edit} is there twice: give it one strength")


class Variants:
    """Finds what stands behind a variant's name, for one store."""

    def __init__(
        self,
        work: WorkStore,
        bases: BaseModels,
        suffixes: Reservations,
        aliases: Aliases,
        policy: Policy,
    ) -> None:
        self._work = work
        self._policy = policy
        self._bases = bases
        self._suffixes = suffixes
        self._aliases = aliases

    def given_suffix(self, tenant: str, suffix: str, base_model: str | None) -> list[str]:
        """Ids of the edits, of one base model or of all, that ever held a suffix."""
        if not SUFFIX_PATTERN.fullmatch(suffix):
            return []
        bases = self._bases.every_id() if base_model is None else [base_model]
        return [
            id
            for base in bases
            if BASE_ID_PATTERN.fullmatch(base)
            for id in self._suffixes.holders(tenant, suffix_key(base, suffix))
        ]

    def resolve(
        self,
        tenant: str,
        name: str,
        *,
        actor: Actor | None,
        without_parents: bool = False,
        place: Callable[[str], float] | None = None,
    ) -> Variant:
        """The variant of that name.

        Args:
            name: a variant's name or an alias; a base id goes before an alias.
            actor: who wants to use it, whom the policy may not let; None: it is only looked at. An
                alias may be used by all: who made it was let.
            place: where in [0, 1) a request lies for an alias that has shares; None: where none
                of them is.
            without_parents: allow an edit that was fitted on top of others to be served without
                them.

        Raises:
            InvalidVariant: the name is not valid.
            UnknownVariant: no such base model, alias, edit or point.
            NotFound: `no_delta`, an edit ended without one.
            Conflict: `edit_not_finished`, `base_model_not_ready`, `base_model_changed`,
                `parents_missing`.
            PolicyRefused: the policy does not let the actor use it.
        """
        parsed = parse(name)
        if not parsed.terms and self._bases.find(parsed.base) is None:
            alias = self._aliases.current(tenant, parsed.base)
            if alias is None:
                raise UnknownVariant(f"no such model: {name!r}")
            parsed = parse(alias.variant if place is None else alias.at(place(parsed.base)))
            without_parents = without_parents or alias.without_parents
            actor = None
        base = self._base(parsed.base, name)
        edits = [self._edit(tenant, base, term) for term in parsed.terms]
        _refuse_repeats([edit.id for edit in edits])
        if not without_parents:
            _require_parents(edits, parsed.terms)
        terms = [self._delta(edit, term) for edit, term in zip(edits, parsed.terms, strict=True)]
        canonical = VariantName(
            base.id,
            tuple(TermName(term.edit_id, term.point, term.strength) for term in terms),
        )
        variant = Variant(
            name=str(canonical),
            base_model=base.id,
            base_fingerprint=base.facts.fingerprint,
            # At strength 0 an edit does nothing, to the bit: then it need not be loaded.
            terms=tuple(term for term in terms if term.strength != 0),
        )
        if actor is not None:
            self.require_covered(tenant, variant, actor)
        return variant

    def require_covered(self, tenant: str, variant: Variant, actor: Actor) -> None:
        """Pass if the policy lets the actor use such points, and such a mixture.

        Raises:
            PolicyRefused: it does not.
        """
        if UNSAFE in actor.scopes:
            return
        with self._work.audit.refusals(tenant, actor, variant=variant.name):
            self._require_terms(variant.terms, self._edits_of(tenant, variant), actor)

    def covered_multiples(
        self, tenant: str, variant: Variant, multiples: Sequence[float], actor: Actor
    ) -> list[float]:
        """Those of the multiples of a variant that the policy lets the actor use.

        Raises:
            NotFound: one of its edits is gone.
        """
        if UNSAFE in actor.scopes:
            return list(multiples)
        edits = self._edits_of(tenant, variant)

        def is_covered(factor: float) -> bool:
            terms = [
                term.model_copy(update={"strength": factor * term.strength})
                for term in variant.terms
            ]
            try:
                self._require_terms(terms, edits, actor)
            except PolicyRefused:
                return False
            return True

        return [factor for factor in multiples if is_covered(factor)]

    def _edits_of(self, tenant: str, variant: Variant) -> Mapping[str, Work]:
        names = {term.edit_id for term in variant.terms}
        return {id: self._work.read("edit", tenant, id) for id in names}

    def _require_terms(
        self, terms: Sequence[DeltaRef], edits: Mapping[str, Work], actor: Actor
    ) -> None:
        for term in terms:
            self._require_point(edits[term.edit_id], term.point, actor)
        parents = {id: below(edit) for id, edit in edits.items()}
        unmeasured = [id for id, edit in edits.items() if not _has_report(edit)]
        reason = not_covered(terms, parents, self._policy.serving, unmeasured)
        if reason is not None:
            raise PolicyRefused(reason)

    def require_covered_point(self, edit: Work, point: int | None, actor: Actor) -> None:
        """The same for the delta of a point as a file."""
        with self._work.audit.refusals(edit.request.tenant, actor, id=edit.id, point=point):
            self._require_point(edit, point, actor)

    def _require_point(self, edit: Work, point: int | None, actor: Actor) -> None:
        if point is not None and point != _selected_point(edit):
            self._policy.require_point(edit.id, point, actor.scopes)

    def named(
        self,
        tenant: str,
        name: str,
        pointer: str,
        *,
        actor: Actor | None,
        without_parents: bool = False,
    ) -> Variant:
        """The variant that a body names; what is wrong with the name is said of its field.

        Raises:
            InvalidRequest: there is no such variant.
            InvalidVariant: the name is not valid.
            NotFound, Conflict, PolicyRefused: as `resolve`.
        """
        try:
            return self.resolve(tenant, name, actor=actor, without_parents=without_parents)
        except UnknownVariant as error:
            raise InvalidRequest.at(pointer, error.message, code="unknown_variant") from error
        except InvalidVariant as error:
            raise InvalidVariant(f"{pointer}: {error.message}") from error

    def _base(self, id: str, name: str) -> ReadyBase:
        try:
            return self._bases.ready(id)
        except InvalidRequest as error:
            raise UnknownVariant(f"no such model: {name!r}; {error.message}") from error

    def _edit(self, tenant: str, base: ReadyBase, term: TermName) -> Work:
        edit = self._find_edit(tenant, base, term.edit)
        if edit is None or edit.request.base_model != base.id:
            raise UnknownVariant(f"{base.id} has no edit {term.edit!r}")
        require_delta(edit)
        if edit.request.base_fingerprint != base.facts.fingerprint:
            raise Conflict(
                f"{edit.id} was made for other weights of {base.id} than those registered now",
                code="base_model_changed",
            )
        return edit

    def _find_edit(self, tenant: str, base: ReadyBase, name: str) -> Work | None:
        if SUFFIX_PATTERN.fullmatch(name):
            return self._suffixes.holder(tenant, suffix_key(base.id, name))
        try:
            return self._work.read("edit", tenant, name)
        except NotFound:
            return None

    def _delta(self, edit: Work, term: TermName) -> DeltaRef:
        try:
            artifact = delta_artifact(edit, term.point)
        except NotFound as error:
            raise UnknownVariant(error.message) from error
        return DeltaRef(
            edit_id=edit.id,
            point=term.point,
            path=artifact.path,
            sha256=artifact.sha256,
            strength=term.strength,
        )


def _require_parents(edits: Sequence[Work], terms: Sequence[TermName]) -> None:
    """Refuse an edit at work without the ones that it was fitted on."""
    present = {edit.id for edit, term in zip(edits, terms, strict=True) if term.strength != 0}
    for edit in edits:
        missing = [parent for parent in parents_of(edit) if parent not in present]
        if edit.id in present and missing:
            raise Conflict(
                f"{edit.id} was fitted on top of {', '.join(missing)}: name them in the variant "
                "too, or ask for it without them",
                code="parents_missing",
            )


def suffix_key(base_model: str, suffix: str) -> str:
    """The name under which a suffix is reserved: it belongs to one base model."""
    return f"{base_model}:{suffix}"


def below(edit: Work) -> tuple[DeltaRef, ...]:
    """What `edit` was fitted on top of."""
    settings = edit.request.settings
    assert isinstance(settings, EditSettings)
    return settings.on_top_of.terms if settings.on_top_of is not None else ()


def parents_of(edit: Work) -> tuple[str, ...]:
    """The edits that `edit` was fitted on top of."""
    return tuple(term.edit_id for term in below(edit))


def measured_by(edit: Work) -> tuple[str, ...]:
    """The edits of the variant that `edit` is a measurement of."""
    settings = edit.request.settings
    assert isinstance(settings, EditSettings)
    return () if settings.measures is None else tuple(t.edit_id for t in settings.measures.terms)


def variant_name(
    edit: Work, strength: float = 1.0, point: int | None = None, suffix: str | None = None
) -> str:
    """The name under which an edit is served: with the edits that it was fitted on.

    Args:
        suffix: names the edit in place of its id.
    """
    terms = [TermName(term.edit_id, term.point, term.strength) for term in below(edit)]
    own = TermName(suffix or edit.id, point, strength)
    return str(VariantName(edit.request.base_model, (*terms, own)))


def variant_of(edit: Work) -> Variant:
    """What an edit that has succeeded is served as: with the edits that it was fitted on.

    Raises:
        Conflict, NotFound: as `require_delta`.
    """
    assert edit.request.base_fingerprint is not None
    artifact = delta_artifact(edit, None)
    itself = DeltaRef(edit_id=edit.id, path=artifact.path, sha256=artifact.sha256, strength=1.0)
    return Variant(
        name=variant_name(edit),
        base_model=edit.request.base_model,
        base_fingerprint=edit.request.base_fingerprint,
        terms=(*below(edit), itself),
    )


def at_strength(variant: Variant, factor: float, pointer: str) -> Variant:
    """A variant with the strengths of all its edits multiplied; of factor 0 the base model.

    Raises:
        InvalidRequest: a strength would be out of bounds; said of the field at `pointer`.
    """
    terms = tuple(
        term.model_copy(update={"strength": term.strength * factor}) for term in variant.terms
    )
    if any(abs(term.strength) > MAX_STRENGTH for term in terms):
        raise InvalidRequest.at(
            pointer, f"{factor:g} times {variant.name} is beyond {MAX_STRENGTH:g}", "out_of_bounds"
        )
    terms = terms if factor else ()
    names = tuple(TermName(term.edit_id, term.point, term.strength) for term in terms)
    name = str(VariantName(variant.base_model, names))
    return variant.model_copy(update={"name": name, "terms": terms})


def require_finished(edit: Work) -> None:
    """Pass if the edit has ended; raise the Conflict `edit_not_finished` if it has not."""
    if edit.result is None:
        raise Conflict(
            f"{edit.id} is {edit.status}: wait until it has succeeded",
            code="edit_not_finished",
            retry_after=_RETRY_SECONDS,
        )


def require_delta(edit: Work) -> None:
    """Pass if the edit has a delta.

    Raises:
        Conflict: `edit_not_finished`.
        NotFound: `no_delta`.
    """
    require_finished(edit)
    if edit.status != "succeeded":
        raise NotFound(f"{edit.id} is {edit.status} and has no delta", code="no_delta")


def require_report(edit: Work) -> Artifact:
    """The receipt of the edit.

    Raises:
        Conflict: `edit_not_finished`.
        NotFound: `no_report`.
    """
    require_finished(edit)
    assert edit.result is not None
    report = edit.result.artifact("report")
    if report is None:
        why = "was imported" if edit.imported else f"is {edit.status}"
        raise NotFound(f"{edit.id} {why} and has no report", code="no_report")
    return report


def _has_report(edit: Work) -> bool:
    return edit.result is not None and edit.result.artifact("report") is not None


def delta_artifact(edit: Work, point: int | None) -> Artifact:
    """The delta of a point; of the selected one where `point` is None.

    Raises:
        Conflict, NotFound: as `require_delta`; `not_found` where there is no such point.
    """
    require_delta(edit)
    assert edit.result is not None
    if point is None or point == _selected_point(edit):
        delta = edit.result.artifact("delta")
    else:
        delta = edit.result.artifact(f"point-{point}")
    if delta is None:
        raise NotFound(f"{edit.id} has no point {point}")
    return delta


def _selected_point(edit: Work) -> int | None:
    points = edit.result.outcome_data.get("points") if edit.result is not None else None
    for point in points if isinstance(points, list) else ():
        if isinstance(point, dict) and point.get("selected") is True:
            index = point.get("index")
            return index if isinstance(index, int) else None
    return None
