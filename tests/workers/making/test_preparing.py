"""What is prepared is what edits of presets look up, and nothing is made twice."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from itertools import islice

import pytest

from models_store.objects.store import ObjectStore, open_store
from models_store.operator.policy import Margins
from models_store.presets import load_preset
from models_store.schemas.methods import Auto, Effort, Limits
from models_store.settings import Settings
from models_store.work.store import SHARED_TENANT
from workers.evaluation.context.context import EvaluationContext
from workers.evaluation.context.plan import plan_for
from workers.evaluation.damage.generation_meter import GenerationMeter
from workers.evaluation.damage.neutral import Use
from workers.evaluation.data.splits import split_behavior
from workers.evaluation.extras.safety import measure_harm
from workers.evaluation.scorers.prepare import prepare_scorers
from workers.evaluation.statistics import Bootstrap
from workers.making.cache import Cache
from workers.making.fitting.fitting import prepare
from workers.making.fitting.source import Source
from workers.making.preparing import preparation
from workers.making.search.choosing import recipes_of
from workers.making.search.recipes import methods_of
from workers.making.search.validation import Validation
from workers.runtime.edits.edited_model import EditedModel
from workers.runtime.loading import LoadedModel

pytestmark = pytest.mark.slow

MARGINS = Margins(prompts=8)
PRESETS = ("compliance", "formality", "refusal")
"""Of which two have the same prompts."""
STATISTICS = {"first tokens", "shift curvature", "curvature"}


@pytest.fixture(scope="module")
def base(load_pico: Callable[..., LoadedModel]) -> LoadedModel:
    return load_pico(first_token=True)


@pytest.fixture(scope="module")
def settings(tmp_path_factory: pytest.TempPathFactory) -> Settings:
    return Settings(data=tmp_path_factory.mktemp("data"))


@pytest.fixture(scope="module")
def objects(settings: Settings) -> ObjectStore:
    return open_store(settings)


def shared(objects: ObjectStore, base: LoadedModel) -> Cache:
    return Cache(objects, SHARED_TENANT, EditedModel(base))


def files(objects: ObjectStore) -> dict[str, float]:
    """Everything in the cache, with the time that it was written."""
    return {info.path: info.modified_at for info in objects.files("cache")}


def _parts(names: Sequence[str]) -> int:
    """What units of these names make at least: those of long texts answers to requests too."""
    return sum(2 if name.startswith("long texts") else 1 for name in names)


def make(cache: Cache, most: int | None = None) -> list[str]:
    """Make so many units; their names."""
    names = []
    for unit in islice(preparation(cache, MARGINS, PRESETS), most):
        unit.make()
        names.append(unit.name)
    return names


@dataclass(frozen=True)
class Made:
    """A preparation that was broken off, and another one that went on to the end."""

    first: Cache
    first_names: list[str]
    kept: dict[str, float]
    """The files in between."""
    then: Cache
    then_names: list[str]


@pytest.fixture(scope="module")
def made(objects: ObjectStore, base: LoadedModel) -> Made:
    first = shared(objects, base)
    names = make(first, 7)
    kept = files(objects)
    then = shared(objects, base)
    return Made(first, names, kept, then, make(then))


def test_what_was_broken_off_is_gone_on_with(made: Made, objects: ObjectStore) -> None:
    assert len(made.first.made) >= _parts(made.first_names)
    # More is there already in the end: a preset may be the inverse of another.
    assert Counter(made.first.made) <= Counter(made.then.reused)
    assert len(made.then.made) + len(made.then.reused) >= _parts(made.then_names)
    assert files(objects).items() > made.kept.items()


def test_what_a_search_needs_comes_first_then_text_of_every_preset(made: Made) -> None:
    assert set(made.first_names[:3]) == set(made.then_names[:3]) == STATISTICS
    for name in PRESETS:
        texts = {f"{name}: validation", f"{name}: test, standard", f"{name}: test, quick"}
        assert texts <= set(made.then_names)


@pytest.mark.parametrize("effort", ["quick", "standard"])
@pytest.mark.usefixtures("made")
def test_an_edit_of_a_preset_finds_all_that_depends_on_the_base(
    effort: Effort, objects: ObjectStore, base: LoadedModel
) -> None:
    before = files(objects)
    model = EditedModel(base)
    cache = Cache(objects, "somebody", model)
    behavior = load_preset("formality")
    splits = split_behavior(behavior, 0)
    context = EvaluationContext(
        model=model,
        behavior=behavior,
        splits=splits,
        method="auto",
        limits=Limits(),
        seed=0,
        plan=plan_for(effort),
        scorers=prepare_scorers(behavior, splits, 0),
        base_text=cache.generated,
    )
    methods = methods_of(recipes_of(context, Auto(), effort))
    prepare(Source.of(context), methods, cache)
    Validation.read(context, cache)
    plan = context.plan.damage
    asked = {"texts": plan.long_texts, "requests": plan.harmless_requests}
    uses: tuple[Use, ...] = ("calibration", "reporting")
    for use in uses:
        for prompts in GenerationMeter.of(model, use, **asked).prompt_sets:
            cache.generated(prompts.ids, prompts.decoding)
    context.generate_unedited([prompt.text for prompt in context.prompts])
    harm = shared(objects, base)
    measure_harm(model, MARGINS, base_text=harm.generated, bootstrap=Bootstrap(0, 10))
    assert cache.made == harm.made == []
    assert set(cache.reused) >= {"generations", "first tokens", "shift curvature"}
    assert cache.reused.count("generations") >= 6
    assert harm.reused.count("generations") == 2
    assert files(objects) == before


@pytest.mark.usefixtures("made")
def test_only_what_was_lost_is_made_again(objects: ObjectStore, base: LoadedModel) -> None:
    before = files(objects)
    lost = next(path for path in before if path.startswith("cache/statistics/"))
    objects.delete(lost)
    again = shared(objects, base)
    make(again)
    assert len(again.made) == 1
    assert again.made[0] in STATISTICS
    after = files(objects)
    assert after.keys() == before.keys()
    assert [path for path in before if after[path] != before[path]] == [lost]


def test_harm_is_not_prepared_where_the_policy_has_none_measured(
    objects: ObjectStore, base: LoadedModel
) -> None:
    names = [unit.name for unit in preparation(shared(objects, base), Margins(prompts=0), PRESETS)]
    assert names
    assert not [name for name in names if name.startswith("harm")]
