"""What all arms of one behaviour and seed share: model, splits, prompts, scorers."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
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
from workers.evaluation.context.arms import ArmMaker
from workers.evaluation.context.context import EvaluationContext
from workers.evaluation.context.plan import EvaluationPlan
from workers.evaluation.damage.damage import DamageMeter, DamagePlan
from workers.evaluation.damage.reader import OtherModel, Reader
from workers.evaluation.data.splits import split_behavior
from workers.evaluation.effect.generations import Arm, generate_arm
from workers.evaluation.progress import Progress
from workers.evaluation.scorers.prepare import Judges, prepare_scorers
from workers.evaluation.suites.protocol import greedy
from workers.evaluation.suites.scoring import suite_scorer
from workers.making.cache import Cache
from workers.making.fitting.readings import Source
from workers.making.search.validation import Validation
from workers.making.stages import Stages
from workers.runtime.base_models import materialise
from workers.runtime.loading import BaseModel, load_base
from workers.runtime.side_path import SidePath
from workers.runtime.tokens import encode_prompt

TEST = "test"
DAMAGE = DamagePlan(own_samples=60, heldout_texts=60, fluency_pairs=60)
"""All neutral texts of a receipt, fewer of the rest, since seeds are averaged."""


def quietly(share: float) -> None:
    """Progress that nobody looks at."""


class SharedValidation(Validation):
    """A `Validation` that makes its meters once for all searches."""

    def __init__(
        self, context: EvaluationContext, cache: Cache, side: SidePath, progress: Progress
    ) -> None:
        super().__init__(context, cache, side, progress)
        self._meters: dict[DamagePlan, DamageMeter] = {}

    def meter(self, plan: DamagePlan, progress: Progress) -> DamageMeter:
        if plan not in self._meters:
            self._meters[plan] = super().meter(plan, progress)
        return self._meters[plan]


class Setting:
    """One behaviour with one seed; costly parts are made on first use."""

    def __init__(
        self,
        base: BaseModel,
        base_id: str,
        subject: TableBehavior,
        seed: int,
        options: Options,
        settings: Settings,
    ) -> None:
        self.base = base
        self.options = options
        self.side = SidePath(base)
        folder = settings.cache / "benchmarks"
        store = open_store(settings.model_copy(update={"store_url": f"file://{folder}"}))
        self.cache = Cache(store, SHARED_TENANT, base)
        self.stages = Stages(lambda stage, share: None, time.monotonic())
        behavior = self._behavior(subject)
        splits = split_behavior(behavior, seed)
        preserved, self._safe = subject.safe_prompts(seed, options.prompts)
        judges = Judges(base, base_id)
        self.context = EvaluationContext(
            base=base,
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
            reader=Reader(base, base_id, other_model(base_id, settings)),
            scorers=prepare_scorers(behavior, splits, seed, judges),
            judges=judges,
        )
        self.maker = ArmMaker(self.context, self.side)

    @property
    def prompts(self) -> Mapping[str, Sequence[str]]:
        """Test prompts by set; damage is measured on the first set."""
        eliciting = [prompt.text for prompt in self.context.prompts]
        return {HARMFUL: eliciting, **self._safe} if self._safe else {TEST: eliciting}

    @property
    def aucs(self) -> dict[str, float | None]:
        """AUC of each scorer on held-out texts."""
        assert self.context.scorers is not None
        return {scorer.name: scorer.auc for scorer in self.context.scorers}

    @cached_property
    def validation(self) -> SharedValidation:
        return SharedValidation(self.context, self.cache, self.side, quietly)

    @property
    def source(self) -> Source:
        context = self.context
        return Source(
            base=self.base,
            splits=context.splits,
            chat=context.behavior.chat,
            on_top=(),
            seed=context.seed,
            preserve=context.preserve,
        )

    def before(self, prompts: Sequence[str]) -> Arm:
        """The base's generations from test prompts, from the cache if they are there."""
        chat = self.context.behavior.chat
        ids = [encode_prompt(self.base, text, chat=chat) for text in prompts]
        return self.cache.remembered_arm(
            ids, self.context.decoding, lambda: self.maker.make(prompts, (), quietly)
        )

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
        decoding = greedy(max_new_tokens)
        arm = self.cache.remembered_arm(
            ids,
            decoding,
            lambda: generate_arm(self.base, ids, (), decoding, side=self.side, progress=quietly),
        )
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
            cache=settings.cache,
        ),
    )
