"""The engine on a pico model: different variants at the same time, each as if it were alone."""

from __future__ import annotations

import itertools
import queue
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import torch

from models_store.errors import Unavailable
from models_store.schemas.generation import Finished, GenerationError
from models_store.weights.architectures import GATE, MatrixKey
from tests.support.edits import random_edit, random_term
from workers.generator.engine.choice import ChoiceDecoder, Piece
from workers.generator.engine.engine import Engine, Job
from workers.generator.engine.text import TextStream
from workers.generator.line_queue import EngineLine
from workers.runtime.decoding.decode import generate
from workers.runtime.decoding.requests import Request
from workers.runtime.decoding.sampling import SamplingParams
from workers.runtime.edits.apply import WeightEditor
from workers.runtime.edits.side_path import SidePath
from workers.runtime.loading import LoadedModel, load_base
from workers.surgery.terms import Mixture, make_term

MARGIN = 1e-3


@pytest.fixture(scope="module")
def base(pico_folder: Path) -> LoadedModel:
    return load_base(pico_folder, device="cpu", dtype="float32")


@pytest.fixture
def engine() -> Iterator[Engine]:
    engine = Engine(most_rows=8, most_waiting=16)
    yield engine
    engine.close()


def choice(base: LoadedModel, index: int, mixture: Mixture = (), length: int = 12) -> ChoiceDecoder:
    prompt = base.tokenizer("the food is", add_special_tokens=False)["input_ids"]
    request = Request(prompt, length, mixture, stop_ids=frozenset())
    return ChoiceDecoder(index, request, TextStream(base.tokenizer.backend_tokenizer))


def collect(lines: queue.Queue[EngineLine], choices: int) -> dict[int, tuple[str, Finished]]:
    texts = dict.fromkeys(range(choices), "")
    ends: dict[int, Finished] = {}
    while len(ends) < choices:
        line = lines.get(timeout=60)
        assert not isinstance(line, GenerationError), line
        if isinstance(line, Piece):
            texts[line.index] += line.text
        else:
            ends[line.index] = line
    return {index: (texts[index], ends[index]) for index in ends}


def greedy_of_merged(pico_folder: Path, mixture: Mixture, length: int) -> tuple[list[int], float]:
    """Tokens of the fp64 model with the edit in its weights, and the smallest margin met."""
    base = load_base(pico_folder, device="cpu", dtype="float64")
    WeightEditor(base).apply_(mixture)
    ids = base.tokenizer("the food is", add_special_tokens=False)["input_ids"]
    made, margin = [], float("inf")
    for _ in range(length):
        logits = base.model(torch.tensor([ids + made])).logits[0, -1]
        top = logits.topk(2)
        margin = min(margin, float(top.values[0] - top.values[1]))
        made.append(int(top.indices[0]))
    return made, margin


def test_variants_in_flight_together_each_speak_as_their_merged_model(
    base: LoadedModel, engine: Engine, pico_folder: Path
) -> None:
    first, second = random_edit(base, seed=1), random_edit(base, seed=2)
    mixtures: list[Mixture] = [
        (),
        [(first, 1.0)],
        [(first, -0.6)],
        [(second, 0.7), (first, 2.0)],
    ]
    lines: queue.Queue[EngineLine] = queue.Queue()

    engine.submit(
        Job(
            SidePath(base),
            [choice(base, i, mixture) for i, mixture in enumerate(mixtures)],
            lines.put,
        )
    )
    answers = collect(lines, len(mixtures))

    compared = 0
    for index, mixture in enumerate(mixtures):
        expected, margin = greedy_of_merged(pico_folder, mixture, 12)
        if margin > MARGIN:
            compared += 1
            text = base.tokenizer.decode(expected, skip_special_tokens=True)
            # Half a character at the end is never shown.
            assert answers[index][0] == text.rstrip("\ufffd")
    assert compared >= 3
    assert len({text for text, _ in answers.values()}) == len(mixtures)


def test_a_request_that_comes_later_does_not_wait_for_the_earlier_one(
    base: LoadedModel, engine: Engine
) -> None:
    long, short = queue.Queue[EngineLine](), queue.Queue[EngineLine]()
    engine.submit(Job(SidePath(base), [choice(base, 0, length=400)], long.put))
    long.get(timeout=60)

    engine.submit(Job(SidePath(base), [choice(base, 0, length=4)], short.put))
    collect(short, 1)

    assert engine.busy == 1


def test_a_reader_that_left_frees_its_row(base: LoadedModel, engine: Engine) -> None:
    lines: queue.Queue[EngineLine] = queue.Queue()
    job = Job(SidePath(base), [choice(base, 0, length=480)], lines.put)
    engine.submit(job)
    lines.get(timeout=60)

    engine.cancel(job)
    after: queue.Queue[EngineLine] = queue.Queue()
    engine.submit(Job(SidePath(base), [choice(base, 0, length=8)], after.put))
    collect(after, 1)

    assert engine.busy == 0
    assert not any(isinstance(line, Finished) for line in list(lines.queue))


def test_tenants_take_turns(base: LoadedModel) -> None:
    engine = Engine(most_rows=4)
    try:
        order: list[str] = []
        side = SidePath(base)
        ended = threading.Semaphore(0)

        def sink(tenant: str) -> Callable[[EngineLine], None]:
            def take(line: EngineLine) -> None:
                if isinstance(line, Finished):
                    order.append(tenant)
                    ended.release()

            return take

        many = [choice(base, index, length=20) for index in range(40)]
        engine.submit(Job(side, many, sink("large"), "large"))
        engine.submit(Job(side, [choice(base, 0, length=20)], sink("small"), "small"))
        for _ in range(41):
            assert ended.acquire(timeout=60)

        # Four rows are decoded at a time: at worst the small one waits for the four before it.
        assert order.index("small") <= 8
    finally:
        engine.close()


def test_edits_of_routed_experts_are_served_from_the_weights_one_variant_at_a_time(
    load_pico: Callable[..., LoadedModel], engine: Engine
) -> None:
    base = load_pico("qwen3_moe")
    pristine = {name: value.clone() for name, value in base.model.named_parameters()}
    keys = [key for key in base.architecture.gates() if key.expert is not None]
    edits = [
        [random_term(base, key, seed=100 * number + place) for place, key in enumerate(keys)]
        for number in range(2)
    ]
    mixtures: list[Mixture] = [(), [(edits[0], 2.0)], [(edits[1], -2.0)], [(edits[0], 2.0)]]
    choices = [choice(base, index) for index in range(4)]
    for own, mixture in zip(choices, mixtures, strict=True):
        own.weights = mixture
    lines: queue.Queue[EngineLine] = queue.Queue()
    engine.submit(Job(SidePath(base), choices, lines.put))
    answers = collect(lines, 4)
    seen: list[bool] = []

    def pieces() -> Iterator[None]:
        seen.append(all(map(torch.equal, pristine.values(), base.model.parameters())))
        yield

    engine.run(pieces(), timeout=60)

    assert seen == [True]
    for index, mixture in enumerate(mixtures):
        with WeightEditor(base).applied(mixture):
            (alone,) = generate(
                base, [choices[0].request.prompt], max_new_tokens=12, stop_ids=frozenset()
            )
        text = base.tokenizer.decode(alone.ids, skip_special_tokens=True)
        assert answers[index][0] == text.rstrip("\ufffd")
    assert answers[1][0] == answers[3][0]
    assert len({text for text, _ in answers.values()}) == 3


def test_more_than_may_wait_is_refused_at_once(base: LoadedModel, engine: Engine) -> None:
    with pytest.raises(Unavailable, match="waiting"):
        engine.submit(Job(SidePath(base), [choice(base, i) for i in range(17)], lambda line: None))


def test_no_tenants_take_all_waiting_places(base: LoadedModel) -> None:
    engine = Engine(most_rows=1, most_waiting=64)

    def submit(
        tenant: str, count: int, sink: Callable[[EngineLine], None] = lambda line: None
    ) -> None:
        choices = [choice(base, i, length=400) for i in range(count)]
        engine.submit(Job(SidePath(base), choices, sink, tenant))

    def fill(tenant: str) -> int:
        for number in range(100):
            try:
                submit(tenant, 1)
            except Unavailable:
                return number
        return 100

    lines: queue.Queue[EngineLine] = queue.Queue()
    submit("first", 1, lines.put)
    lines.get(timeout=60)  # the only row is taken: what comes now waits
    try:
        assert fill("greedy") == 32
        assert [fill(f"greedy-{number}") for number in range(3)] == [16, 8, 4]
        submit("modest", 2)
        with pytest.raises(Unavailable, match="of them this tenant's"):
            submit("greedy", 1)
    finally:
        engine.close()


def test_one_bad_request_fails_alone(base: LoadedModel, engine: Engine) -> None:
    bad, good = queue.Queue[EngineLine](), queue.Queue[EngineLine]()
    misfit = make_term(MatrixKey(9, GATE), torch.ones(32), torch.tensor([0]), torch.ones(1))
    engine.submit(Job(SidePath(base), [choice(base, 0, [([misfit], 1.0)])], bad.put))
    failed = bad.get(timeout=60)
    engine.submit(Job(SidePath(base), [choice(base, 0)], good.put))

    assert isinstance(failed, GenerationError)
    assert failed.code == "invalid_request"
    assert collect(good, 1)


def test_a_closing_engine_tells_those_it_leaves(base: LoadedModel) -> None:
    engine = Engine()
    lines: queue.Queue[EngineLine] = queue.Queue()
    engine.submit(Job(SidePath(base), [choice(base, 0, length=500)], lines.put))
    lines.get(timeout=60)

    engine.close()

    assert isinstance(list(lines.queue)[-1], GenerationError)
    with pytest.raises(Unavailable, match="shutting down"):
        engine.submit(Job(SidePath(base), [choice(base, 0)], lines.put))


def test_the_same_seed_gives_the_same_text_whoever_shares_the_batch(
    base: LoadedModel, engine: Engine
) -> None:
    def sampled(index: int, seed: int) -> ChoiceDecoder:
        made = choice(base, index, length=10)
        made.request = Request(made.request.prompt, 10, (), SamplingParams(1.0), seed, frozenset())
        return made

    alone, together = queue.Queue[EngineLine](), queue.Queue[EngineLine]()
    engine.submit(Job(SidePath(base), [sampled(0, 5)], alone.put))
    engine.submit(Job(SidePath(base), [sampled(0, 3), sampled(1, 5), sampled(2, 4)], together.put))

    assert collect(alone, 1)[0][0] == collect(together, 3)[1][0]


def test_work_in_pieces_is_done_while_nothing_is_decoded(engine: Engine) -> None:
    done: list[int] = []

    engine.run((done.append(number) for number in range(5)), timeout=60)

    assert done == [0, 1, 2, 3, 4]


def test_pieces_and_steps_take_turns(base: LoadedModel, engine: Engine) -> None:
    lines: queue.Queue[EngineLine] = queue.Queue()
    made: list[int] = []
    """How many lines had come when each piece was done."""
    job = Job(SidePath(base), [choice(base, 0, length=400)], lines.put)

    def pieces() -> Iterator[None]:
        for _ in range(10):
            time.sleep(0.005)
            made.append(lines.qsize())
            yield

    engine.submit(job)
    engine.run(pieces(), timeout=60)

    collect(lines, 1)
    assert len(made) == 10
    assert made[0] < made[5] < made[9] < 400


def test_a_long_piece_leaves_as_much_time_to_decoding(base: LoadedModel, engine: Engine) -> None:
    steps = 0

    def sink(_: EngineLine) -> None:
        nonlocal steps
        steps += 1

    def pieces() -> Iterator[None]:
        for _ in range(4):
            time.sleep(0.03)
            between.append(steps)
            yield

    between: list[int] = []
    engine.submit(Job(SidePath(base), [choice(base, 0, length=450)], sink))
    engine.run(pieces(), timeout=60)

    # A step of a pico model takes a millisecond or so: the time of a piece has many of them, and
    # the text outlasts all pieces.
    later = [after - before for before, after in itertools.pairwise(between[1:])]
    assert all(number >= 3 for number in later)


def test_an_error_in_a_piece_reaches_who_waits_and_nobody_else(
    base: LoadedModel, engine: Engine
) -> None:
    lines: queue.Queue[EngineLine] = queue.Queue()
    engine.submit(Job(SidePath(base), [choice(base, 0)], lines.put))

    def pieces() -> Iterator[None]:
        yield
        raise ValueError("no such text")

    with pytest.raises(ValueError, match="no such text"):
        engine.run(pieces(), timeout=60)
    assert collect(lines, 1)[0][1].completion_tokens == 12


def test_work_that_takes_too_long_is_given_up(engine: Engine) -> None:
    done = 0

    def pieces() -> Iterator[None]:
        nonlocal done
        while True:
            time.sleep(0.01)
            done += 1
            yield

    with pytest.raises(Unavailable, match="too busy"):
        engine.run(pieces(), timeout=0.1)
    time.sleep(0.05)
    seen = done
    time.sleep(0.05)
    assert done == seen


def test_only_so_much_work_waits_for_its_turn(base: LoadedModel) -> None:
    engine = Engine(most_tasks=1)
    entered, leave = threading.Event(), threading.Event()

    def pieces() -> Iterator[None]:
        entered.set()
        leave.wait()
        yield

    first = threading.Thread(target=lambda: engine.run(pieces(), timeout=60))
    first.start()
    entered.wait()
    with pytest.raises(Unavailable, match="already"):
        engine.run(iter(()), timeout=60)
    leave.set()
    first.join()
    engine.close()
