"""What all arms of one behaviour and seed share: model, splits, prompts, scorers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from benchmarks.quality.data import HARMFUL, REFUSED, TableBehavior
from benchmarks.quality.rows import Options
from models_store.objects.store import open_store
from models_store.schemas.behaviors import Behavior, checked
from models_store.schemas.catalogue import BUILT_IN
from models_store.schemas.items import CompletionItem, Item, prompt_of, text_of
from models_store.schemas.methods import Limits
from models_store.settings import Settings
from models_store.work.store import SHARED_TENANT
from workers.evaluation.context.context import EvaluationContext
from workers.evaluation.context.plan import EvaluationPlan
from workers.evaluation.damage.damage import DamageMeter, DamagePlan
from workers.evaluation.damage.reader import FluencyReader, OtherModel
from workers.evaluation.data.splits import split_behavior
from workers.evaluation.effect.generations import Arm
from workers.evaluation.scorers.prepare import Judges, prepare_scorers
from workers.evaluation.suites.protocol import greedy
from workers.evaluation.suites.scoring import suite_scorer
from workers.making.cache import Cache
from workers.making.fitting.source import Source
from workers.making.search.validation import Validation
from workers.runtime.base_models import materialise
from workers.runtime.edits.edited_model import EditedModel
from workers.runtime.loading import LoadedModel, load_base
from workers.runtime.tokens import encode_prompt

TEST = "test"
DAMAGE = DamagePlan(own_samples=60, heldout_texts=60, fluency_pairs=60)
"""All neutral texts of a receipt, fewer of the rest, since seeds are averaged."""


@dataclass(frozen=True, eq=False)
class SharedValidation(Validation):
    """A `Validation` that makes its meters once for all searches."""

    meters: dict[DamagePlan, DamageMeter] = field(default_factory=dict)

    def meter(self, plan: DamagePlan) -> DamageMeter:
        if plan not in self.meters:
            self.meters[plan] = super().meter(plan)
        return self.meters[plan]


class Setting:
    """One behaviour with one seed; costly parts are made on first use."""

    def __init__(
        self,
        base: LoadedModel,
        base_id: str,
        subject: TableBehavior,
        seed: int,
        options: Options,
        settings: Settings,
    ) -> None:
        self.base = base
        self.options = options
        self.model = EditedModel(base)
        folder = settings.cache / "benchmarks"
        store = open_store(settings.model_copy(update={"store_url": f"file://{folder}"}))
        self.cache = Cache(store, SHARED_TENANT, self.model)
        behavior = self._behavior(subject)
        splits = split_behavior(behavior, seed)
        preserved, self._safe = subject.safe_prompts(seed, options.prompts)
        judges = Judges(base, base_id)
        self.context = EvaluationContext(
            model=self.model,
            behavior=behavior,
            splits=splits,
            method="bias",
            limits=Limits(),
            seed=seed,
            plan=EvaluationPlan(
                test_prompts=options.prompts,
                samples=options.samples,
                generated_tokens=options.prompts * options.samples * behavior.max_new_tokens,
                temperature=0.0 if subject.greedy else EvaluationPlan.temperature,
                damage=DAMAGE,
            ),
            preserve=self._with_responses(preserved, behavior.max_new_tokens),
            reader=FluencyReader(base, base_id, other_model(base_id, settings)),
            scorers=prepare_scorers(behavior, splits, seed, judges),
            judges=judges,
            base_text=self.cache.generated,
        )

    @property
    def prompts(self) -> Mapping[str, Sequence[str]]:
        """Test prompts by set; damage is measured on the first set."""
        eliciting = [prompt.text for prompt in self.context.prompts]
        return {HARMFUL: eliciting, **self._safe} if self._safe else {TEST: eliciting}

    @property
    def templates(self) -> Mapping[str, str]:
        """By test prompt, of those that have one."""
        return {p.text: p.template for p in self.context.prompts if p.template is not None}

    @property
    def aucs(self) -> dict[str, float | None]:
        """AUC of each scorer on held-out texts."""
        assert self.context.scorers is not None
        return {scorer.name: scorer.auc for scorer in self.context.scorers}

    @cached_property
    def validation(self) -> SharedValidation:
        return SharedValidation.read(self.context, self.cache)

    @property
    def source(self) -> Source:
        return Source.of(self.context)

    def before(self, prompts: Sequence[str]) -> Arm:
        """The base's generations from test prompts, from the cache if they are there."""
        return self.cache.generated(self.context.encoded(prompts), self.context.decoding)

    def _behavior(self, subject: TableBehavior) -> Behavior:
        behavior = subject.behavior
        if not subject.use_model_responses:
            return behavior
        items = self._with_responses(
            list(map(prompt_of, behavior.desired)), behavior.max_new_tokens
        )
        refusing = suite_scorer(REFUSED, "scorer")
        scores = refusing.score(
            [prompt_of(item) for item in items], [text_of(item) for item in items]
        )
        complying = [
            item for item, score in zip(items, scores, strict=True) if score < refusing.threshold
        ]
        return checked(behavior.model_copy(update={"undesired": complying}))

    def _with_responses(self, prompts: Sequence[str], max_new_tokens: int) -> tuple[Item, ...]:
        """Prompts with the base's greedy responses."""
        if not prompts:
            return ()
        ids = [encode_prompt(self.base, prompt, chat=True) for prompt in prompts]
        arm = self.cache.generated(ids, greedy(max_new_tokens))
        return tuple(
            CompletionItem(prompt=prompt, completion=texts[0])
            for prompt, texts in zip(prompts, arm.texts, strict=True)
            if texts[0]
        )


def other_model(base_id: str, settings: Settings) -> OtherModel | None:
    """For a built-in base model the other one, which judges fluency if it is installed."""
    if base_id not in BUILT_IN:
        return None
    other = next(spec for id, spec in BUILT_IN.items() if id != base_id)
    source = other.source
    return OtherModel(
        other.id,
        lambda: load_base(
            materialise(source, settings.cache),
            device=settings.device,
            dtype=settings.dtype,
            threads=settings.threads,
            ranks=True,
            cache=settings.cache,
        ),
    )
