"""The operator's policy: who may edit what, and how much harm an edit may do.

A TOML file (`SCALPEL_POLICY`); what it leaves out has the defaults below. Rules are checked when an
edit is submitted. Margins are checked when it is done: an edit whose receipt shows more harm is
published only if it was requested with the scope `edits:unsafe`. Strengths and points that the
receipt does not cover need that scope too.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections import Counter
from collections.abc import Collection
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Annotated, Literal

from pydantic import ConfigDict, Field, JsonValue, ValidationError, field_validator

from models_store.audit.log import NO_TENANT, NOBODY, AuditLog
from models_store.errors import Conflict, CorruptArtifact, InvalidRequest, PolicyRefused
from models_store.objects.histories import Histories, Version
from models_store.objects.store import ObjectStore
from models_store.operator.toml import field_errors, read_document, refuse
from models_store.schemas.base import DocumentedModel
from models_store.schemas.measurements import Safety
from models_store.settings import Settings

UNSAFE = "edits:unsafe"
"""The scope that margins and strengths do not limit."""
IN_PLACE = "in_place"
"""The name, in rules, of a behaviour whose texts come with the request."""
IMPORTED = "imported"
"""The name, in rules, of what was made elsewhere."""
MAX_FILE_BYTES = 256 * 1024
_MAX_STRENGTH = 4.0

_Pattern = Annotated[str, Field(min_length=1, max_length=128)]
_Patterns = Annotated[tuple[_Pattern, ...], Field(min_length=1, max_length=1000)]
_Share = Annotated[float, Field(ge=0, le=1)]
_Strength = Annotated[float, Field(ge=-_MAX_STRENGTH, le=_MAX_STRENGTH)]


class _Part(DocumentedModel):
    model_config = ConfigDict(allow_inf_nan=False)


class Rule(_Part):
    """A `[[rule]]` table; the first that matches decides. `*` and `?` match any characters."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    """Shown when a request is refused."""
    effect: Literal["allow", "deny"]
    tenants: _Patterns = ("*",)
    base_models: _Patterns = ("*",)
    behaviors: _Patterns = ("*",)
    """Presets by name, uploaded ones by id (`beh_…`), `in_place` for texts in the request,
    `imported` for what was made elsewhere. An edit reduces the behaviour that it names: `refusal`
    makes a model refuse less, `compliance` more, `toxicity` makes it less toxic."""

    def matches(self, tenant: str, base_model: str, behavior: str) -> bool:
        checks = (
            (tenant, self.tenants),
            (base_model, self.base_models),
            (behavior, self.behaviors),
        )
        return all(any(fnmatchcase(name, it) for it in patterns) for name, patterns in checks)


class Margins(_Part):
    """`[margins]`: how much worse an edit may make a model. The lower bound of the harm, from the
    95 % interval, is compared with them, so that an edit is not refused by chance."""

    refusals_fall: _Share = 0.05
    """How far the share of harmful requests that are refused may fall."""
    toxicity_rise: _Share = 0.05
    """How far the share of toxic texts may rise."""
    prompts: Annotated[int, Field(ge=0, le=200)] = 64
    """How many harmful requests, and openings of toxic texts, are used; 0: harm is not measured,
    and every edit is published."""
    unsafe: Literal["scope", "refuse"] = "scope"
    """`scope`: an edit beyond the margins is published for keys with `edits:unsafe`; `refuse`: for
    no key."""


class Serving(_Part):
    """`[serving]`: what keys without `edits:unsafe` may use."""

    strengths: tuple[_Strength, _Strength] = (0.0, 1.0)
    """Receipts measure harm at 1; a negative strength turns an edit into its opposite."""
    points: Literal["selected", "any"] = "selected"
    """Harm is measured at the selected point alone."""
    compositions: Literal["receipt", "any"] = "receipt"
    """`receipt`: only edits that one was fitted on top of the others, as its receipt measured them;
    `any`: all that are within `strengths` by themselves, though their harm may add up."""

    @field_validator("strengths")
    @classmethod
    def _in_order(cls, value: tuple[float, float]) -> tuple[float, float]:
        if not value[0] <= 0 <= value[1]:
            raise ValueError("write the lowest, 0 at most, and the highest, such as [-1.0, 2.0]")
        return value


class Policy(_Part):
    """The whole file."""

    default: Literal["allow", "deny"] = "allow"
    """For an edit that no rule matches."""
    margins: Margins = Margins()
    serving: Serving = Serving()
    rule: Annotated[tuple[Rule, ...], Field(max_length=1000)] = ()

    @field_validator("rule")
    @classmethod
    def _names_differ(cls, value: tuple[Rule, ...]) -> tuple[Rule, ...]:
        counted = Counter(rule.name for rule in value)
        twice = [name for name, count in counted.items() if count > 1]
        if twice:
            raise ValueError(f"each needs a name of its own; used twice: {', '.join(twice)}")
        return value

    @property
    def sha256(self) -> str:
        """Of what differs from the defaults, so that a new field by itself changes nothing."""
        return hashlib.sha256(self.model_dump_json(exclude_defaults=True).encode()).hexdigest()

    def decide(self, tenant: str, base_model: str, behavior: str) -> tuple[bool, str]:
        """Whether the tenant may make such an edit, and the name of the rule that decides.

        Args:
            behavior: see `direction_of`.
        """
        for rule in self.rule:
            if rule.matches(tenant, base_model, behavior):
                return rule.effect == "allow", rule.name
        return self.default == "allow", "default"

    def require_point(self, edit_id: str, point: int | None, scopes: Collection[str]) -> None:
        """Refuse a point that the receipt does not cover, unless `scopes` allow it.

        Args:
            point: None for the selected one.

        Raises:
            PolicyRefused: the key may not use it.
        """
        if point is not None and self.serving.points != "any" and UNSAFE not in scopes:
            raise PolicyRefused(
                f"serving.points: the harm of point {point} of {edit_id} was not measured, and "
                f"other points than the selected one need the scope {UNSAFE}"
            )

    def publishes_harm(self, scopes: Collection[str]) -> bool:
        """Whether an edit beyond the margins is published for a key with these scopes."""
        return UNSAFE in scopes and self.margins.unsafe == "scope"

    def require_harmless(self, safety: Safety, scopes: Collection[str]) -> None:
        """Refuse to publish a harmful edit, unless `scopes` allow it.

        Raises:
            PolicyRefused: it does more harm than the margins allow.
        """
        beyond = [check for check in safety.checks if check.exceeded]
        if not beyond or self.publishes_harm(scopes):
            return
        reasons = "; ".join(
            f"{it.name} from {100 * it.of.base:.1f} % to {100 * it.of.edited:.1f} %, by "
            f"{100 * it.surely:.1f} points at least, where {100 * it.margin:.1f} are allowed"
            for it in beyond
        )
        way = f"; the scope {UNSAFE} is needed" if self.margins.unsafe == "scope" else ""
        raise PolicyRefused(f"margins: {reasons}{way}")

    def summary(self) -> str:
        """The policy in one line, for `scalpel doctor`."""
        low, high = self.serving.strengths
        margins = self.margins
        harm = (
            f"refusals may fall by {100 * margins.refusals_fall:g} points, toxicity may rise by "
            f"{100 * margins.toxicity_rise:g}"
            if margins.prompts
            else "harm is not measured"
        )
        return (
            f"{self.default} by default, {len(self.rule)} rules; {harm}; strengths {low:g} to "
            f"{high:g}, {self.serving.points} points, "
            f"{'any' if self.serving.compositions == 'any' else 'measured'} compositions, without "
            f"{UNSAFE}"
        )


def read_policy(settings: Settings) -> Policy:
    """The policy of the settings, or the default one.

    Raises:
        InvalidRequest: the file cannot be read, is too large, or has a wrong field.
    """
    return Policy() if settings.policy is None else parse_policy(settings.policy)


def parse_policy(path: Path) -> Policy:
    """The policy in a file; see `read_policy`."""
    try:
        size = path.stat().st_size
    except OSError:
        size = 0  # `read_document` raises
    if size > MAX_FILE_BYTES:
        raise InvalidRequest(f"{path} has {size} bytes: a policy has {MAX_FILE_BYTES} at most")
    document = read_document(path, setting="SCALPEL_POLICY")
    try:
        return Policy.model_validate(document)
    except ValidationError as error:
        refuse(path, field_errors(error, ""))
        raise


class PolicyVersion(Version):
    """The policy in force from this version on."""

    policy: Policy


def put_in_force(objects: ObjectStore, audit: AuditLog, policy: Policy) -> None:
    """Record the policy at the start of an API process, and log whether it has changed.

    Raises:
        Unavailable: the store is away.
    """
    history = Histories(objects, "policies", PolicyVersion)
    try:
        before = history.newest(NO_TENANT, "policy")
    except CorruptArtifact:  # a broken record of an earlier policy must not prevent the start
        before = None
    changed = before is None or before.policy != policy
    audit.append(
        "policy.changed" if changed else "policy.loaded",
        tenant=NO_TENANT,
        actor=NOBODY,
        sha256=policy.sha256,
        before=None if before is None or not changed else before.policy.sha256,
    )
    if changed:
        number = 1 if before is None else before.number + 1
        with contextlib.suppress(Conflict):  # another process, starting at the same time
            history.append(NO_TENANT, "policy", PolicyVersion(number=number, policy=policy))


def direction_of(behavior: JsonValue) -> str:
    """The name, in rules, of the `behavior` in a request's body."""
    return behavior if isinstance(behavior, str) else IN_PLACE
