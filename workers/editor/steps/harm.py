"""Whether an edit does harm, and what the operator's policy says of that."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial

from models_store.errors import EditFailed, PolicyRefused
from models_store.operator.policy import Policy, read_policy
from models_store.schemas.measurements import Safety, SafetyCheck
from models_store.schemas.report import Report
from models_store.schemas.report_views import Point
from models_store.work.store import SHARED_TENANT
from workers.editor.jobs.task import FailedWithOutcome, Task
from workers.editor.steps.receipts import outcome_of
from workers.editor.steps.values import Ingredients
from workers.evaluation.evaluate import Evaluation
from workers.evaluation.extras.safety import harm_on_own_prompts, measure_harm
from workers.evaluation.statistics import Bootstrap
from workers.making.cache import Cache
from workers.making.search.choosing import Chosen
from workers.runtime.edits.edited_model import EditedModel


def policy_for(task: Task) -> Policy:
    """The operator's policy, which is the one that the request was allowed by.

    Raises:
        EditFailed: `policy_changed`, this editor has another one.
    """
    policy, allowed_by = read_policy(task.settings), task.request.policy_sha256
    if allowed_by not in (None, policy.sha256):
        raise EditFailed(
            "the operator's policy is not the one that allowed this request: the policy was "
            "changed since, or this editor has another SCALPEL_POLICY than the API",
            code="policy_changed",
        )
    return policy


def harm_of(edit: Ingredients, chosen: Chosen, evaluation: Evaluation) -> tuple[SafetyCheck, ...]:
    """Whether the edit, with its parent edits, does harm; empty where the policy has nothing
    measured."""
    context, margins = edit.context, edit.policy.margins
    if not margins.prompts:
        return ()
    shared = Cache(edit.task.store.objects, SHARED_TENANT, context.model.base)
    measured = measure_harm(
        context.model.plus(chosen.terms),
        margins,
        base_text=shared.generated,
        bootstrap=context.bootstrap,
    )
    on_own_prompts = harm_on_own_prompts(
        evaluation.effects,
        evaluation.scorers,
        evaluation.extras.side_effects,
        len(context.prompts),
        margins,
    )
    return (*measured, *on_own_prompts)


def require_harmless_import(task: Task, policy: Policy, model: EditedModel) -> None:
    """Measure the harm of an edit that was made elsewhere, where no key may publish harmful ones.

    Elsewhere it need not be measured: such an edit has no receipt, so only keys that margins do not
    limit may use it.

    Raises:
        EditFailed: `policy_refused`, it does more harm than the policy allows.
    """
    margins, actor = policy.margins, task.request.actor
    if not margins.prompts or margins.unsafe != "refuse":
        return
    shared = Cache(task.store.objects, SHARED_TENANT, model.base)
    harm = measure_harm(model, margins, base_text=shared.generated, bootstrap=Bootstrap(0))
    try:
        policy.require_harmless(Safety(checks=harm, published=True), actor.scopes)
    except PolicyRefused as error:
        log = partial(
            task.store.audit.append,
            "policy.refused",
            tenant=task.request.tenant,
            actor=actor,
            id=task.request.id,
            reason=error.message,
        )
        task.patiently(log)
        raise EditFailed(error.message, code=error.code) from error


def with_safety(
    edit: Ingredients, report: Report, harm: tuple[SafetyCheck, ...], points: Sequence[Point]
) -> Report:
    """The receipt with what the operator's policy says of the edit. No delta may be stored before
    this.

    Raises:
        FailedWithOutcome: `policy_refused`, with the receipt and nothing else.
    """
    if not harm:
        return report
    safety = Safety(checks=harm, published=True)
    task, actor = edit.task, edit.task.request.actor
    log = partial(
        task.store.audit.append,
        tenant=task.request.tenant,
        actor=actor,
        id=task.request.id,
        beyond=[check.name for check in harm if check.exceeded],
    )
    try:
        edit.policy.require_harmless(safety, actor.scopes)
    except PolicyRefused as error:
        task.patiently(partial(log, "policy.refused", reason=error.message))
        held = safety.model_copy(update={"published": False})
        outcome = outcome_of(edit, report.model_copy(update={"safety": held}), [], points)
        raise FailedWithOutcome(error.message, code=error.code, outcome=outcome) from error
    task.patiently(partial(log, "policy.allowed"))
    return report.model_copy(update={"safety": safety})
