"""Fine-tuning jobs by OpenAI's client: each is an edit, told in OpenAI's words."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

from models_store.schemas.behaviors import from_lines
from models_store.schemas.items import ChatItem
from tests.app.fine_tuning.cases import (
    CONVERSATIONS,
    PREFERENCES,
    client_of,
    conversation,
    lines,
    preference,
    said,
    uploaded,
)
from tests.app.support.worker import Worker, small_delta
from tests.support.services import Api, RedisServer, api_settings, running_api

DPO = {"type": "dpo"}


@pytest.fixture
def client(api: Api, worker: Worker) -> Iterator[openai.OpenAI]:
    worker.register("chatty", chat_template=True)
    with client_of(api) as client:
        yield client


def make(client: openai.OpenAI, data: bytes = PREFERENCES, **changes: Any) -> Any:
    fields = {"model": "chatty", "method": DPO, **changes}
    return client.fine_tuning.jobs.create(training_file=uploaded(client, data), **fields)


def edit_of(job: Any) -> str:
    return f"edit_{job.id.removeprefix('ftjob-')}"


def behavior_of(api: Api, job: Any) -> Any:
    edit = api.store.work.read("edit", "default", edit_of(job))
    return from_lines(api.store.work.texts_of(edit))[0]


def test_preferences_become_the_two_sides_of_an_edit(api: Api, client: openai.OpenAI) -> None:
    job = make(client, suffix="kinder", seed=7, metadata={"team": "red"})

    assert (job.object, job.status, job.model) == ("fine_tuning.job", "queued", "chatty")
    assert (job.seed, job.metadata) == (7, {"team": "red"})
    assert (job.fine_tuned_model, job.finished_at, job.error) == (None, None, None)
    assert (job.trained_tokens, job.result_files) == (None, [])
    assert job.method.type == "dpo"
    assert job.method.dpo.hyperparameters.beta == "auto"
    edit = api.http.get(f"/v1/edits/{edit_of(job)}").json()
    assert (edit["status"], edit["suffix"], edit["seed"]) == ("queued", "kinder", 7)
    assert edit["metadata"] == {"team": "red"}
    assert edit["behavior"]["name"] == "examples.jsonl"
    behavior = behavior_of(api, job)
    assert (len(behavior.desired), len(behavior.undesired)) == (20, 20)
    pair = behavior.desired[3], behavior.undesired[3]
    assert [item.messages[-1].content for item in pair] == [
        "Day 3 was lovely, thank you.",
        "Day 3 was awful, go away.",
    ]
    assert pair[0].messages[:-1] == pair[1].messages[:-1]
    assert pair[0].pair_id == pair[1].pair_id
    assert client.fine_tuning.jobs.retrieve(job.id) == job


def test_conversations_become_the_desired_side(api: Api, client: openai.OpenAI) -> None:
    long = {
        "messages": [
            said("developer", "Be kind."),
            said("user", "One?"),
            {**said("assistant", "Not learned from."), "weight": 0},
            said("user", "Two?"),
            {**said("assistant", "The first."), "weight": 1},
            {"role": "user", "content": [{"type": "text", "text": "Three?"}]},
            said("assistant", "The second."),
        ]
    }
    job = make(client, CONVERSATIONS + lines([long]), method={"type": "supervised"})

    behavior = behavior_of(api, job)
    assert (behavior.undesired_from, behavior.undesired, behavior.chat) == ("base_model", (), True)
    assert len(behavior.desired) == 22
    first, second = behavior.desired[-2:]
    assert isinstance(first, ChatItem)
    assert [message.role for message in first.messages] == [
        "system", "user", "assistant", "user", "assistant",
    ]  # fmt: skip
    assert (first.messages[-1].content, second.messages[-2].content) == ("The first.", "Three?")
    assert first.pair_id == second.pair_id == "line-21"


def test_supervised_is_the_method_by_default_and_takes_completions_too(
    api: Api, client: openai.OpenAI
) -> None:
    pairs = lines({"prompt": f"Day {n}:", "completion": f" good {n}"} for n in range(16))
    job = client.fine_tuning.jobs.create(model="pico", training_file=uploaded(client, pairs))

    assert job.method is not None
    assert job.method.type == "supervised"
    behavior = behavior_of(api, job)
    assert (behavior.chat, behavior.undesired_from) == (False, "base_model")
    assert behavior.desired[2].completion == " good 2"


def test_a_validation_file_gives_the_prompts(api: Api, client: openai.OpenAI) -> None:
    held = lines(
        preference(n, input={"messages": [said("user", f"And {n}?")]}) for n in range(100, 130)
    )
    job = make(client, validation_file=uploaded(client, held))

    assert job.validation_file is not None
    prompts = behavior_of(api, job).prompts
    assert [prompt.text for prompt in prompts] == [f"And {n}?" for n in range(100, 130)]


def test_options_of_the_edit_go_beside_openais(api: Api, client: openai.OpenAI) -> None:
    options = {"method": {"type": "bias"}, "effort": "quick", "limits": {"max_kl": 0.05}}
    job = make(client, extra_body={"edit": options})

    edit = api.http.get(f"/v1/edits/{edit_of(job)}").json()
    assert (edit["method"]["type"], edit["effort"]) == ("bias", "quick")
    assert edit["limits"]["max_kl"] == 0.05


def test_a_variant_is_fine_tuned_further(api: Api, client: openai.OpenAI, worker: Worker) -> None:
    first = make(client)
    worker.succeed(edit_of(first))
    name = client.fine_tuning.jobs.retrieve(first.id).fine_tuned_model
    assert name == f"chatty:{edit_of(first)}"

    second = make(client, model=name)

    assert second.model == name
    assert api.http.get(f"/v1/edits/{edit_of(second)}").json()["on_top_of"] == name


def test_a_job_goes_from_its_events_to_its_checkpoints(
    api: Api, client: openai.OpenAI, worker: Worker
) -> None:
    method = {"type": "dpo", "dpo": {"hyperparameters": {"n_epochs": 3, "beta": 0.5}}}
    job = make(client, method=method)
    edit = edit_of(job)
    jobs = client.fine_tuning.jobs
    worker.claim(edit)
    worker.tell_stage(edit, "probe")
    assert jobs.retrieve(job.id).status == "running"
    running = jobs.list_events(job.id).data
    worker.succeed(edit, points={0: small_delta(0), 1: small_delta(1)})

    done = jobs.retrieve(job.id)
    events = list(jobs.list_events(job.id, limit=2))
    points = list(jobs.checkpoints.list(job.id, limit=1))

    assert (done.status, done.fine_tuned_model) == ("succeeded", f"chatty:{edit}")
    assert done.finished_at is not None
    assert done.method.dpo.hyperparameters.n_epochs == 3
    messages = [event.message for event in reversed(events)]
    assert messages[0] == f"Created fine-tuning job: {job.id}"
    warned = [event for event in events if event.level == "warn"]
    assert [event.message.partition(" has")[0] for event in reversed(warned)] == [
        "n_epochs = 3", "beta = 0.5",
    ]  # fmt: skip
    assert messages[3:5] == ["Fine-tuning job started: attempt 1", "Fitting"]
    metrics = [event.data for event in events if event.type == "metrics"]
    assert [data["step"] for data in metrics] == [1, 0]
    assert messages[-2:] == [
        f"New fine-tuned model created: chatty:{edit}",
        "The job has successfully completed",
    ]
    assert events[0].data["receipt"] == f"/v1/edits/{edit}/report"
    assert events[0].data["summary"] == {"verdict": "It works."}
    assert len({event.id for event in events}) == len(events) == 9
    assert [event.id for event in running] == [event.id for event in events[4:]]
    assert [point.fine_tuned_model_checkpoint for point in points] == [
        f"chatty:{edit}~1", f"chatty:{edit}~0",
    ]  # fmt: skip
    assert [point.step_number for point in points] == [1, 0]
    assert client.models.retrieve(points[0].fine_tuned_model_checkpoint).id.endswith("~1")


def test_the_result_file_is_the_receipt(client: openai.OpenAI, worker: Worker) -> None:
    job = make(client)
    worker.succeed(edit_of(job), report=b'{"verdict": 1}')

    (result,) = client.fine_tuning.jobs.retrieve(job.id).result_files
    file = client.files.retrieve(result)

    assert (file.purpose, file.filename, file.bytes) == ("fine-tune-results", "receipt.json", 14)
    assert client.files.content(result).read() == b'{"verdict": 1}'
    with pytest.raises(openai.NotFoundError):
        client.files.delete(result)


def test_a_failed_job_says_why(client: openai.OpenAI, worker: Worker) -> None:
    job = make(client)
    worker.fail(edit_of(job), "behavior_not_shown")

    failed = client.fine_tuning.jobs.retrieve(job.id)

    assert (failed.status, failed.fine_tuned_model) == ("failed", None)
    assert failed.error is not None
    assert (failed.error.code, failed.error.param) == ("behavior_not_shown", "training_file")
    newest = client.fine_tuning.jobs.list_events(job.id).data[0]
    assert (newest.level, newest.message) == ("error", "The job failed: it went wrong")
    assert client.fine_tuning.jobs.checkpoints.list(job.id).data == []


def test_a_job_is_canceled(api: Api, client: openai.OpenAI) -> None:
    job = make(client)

    canceled = client.fine_tuning.jobs.cancel(job.id)

    assert canceled.status == client.fine_tuning.jobs.retrieve(job.id).status == "cancelled"
    assert api.http.get(f"/v1/edits/{edit_of(job)}").json()["status"] == "canceled"
    newest = client.fine_tuning.jobs.list_events(job.id).data[0]
    assert newest.message == "Fine-tuning job cancelled"


def test_lists_hold_jobs_and_no_other_edits(
    api: Api, client: openai.OpenAI, worker: Worker
) -> None:
    first, second = make(client, metadata={"team": "red"}), make(client)
    third = make(client, metadata={"team": "red"})
    plain = {"base_model": "chatty", "behavior": "negativity"}
    other = api.http.post("/v1/edits", json=plain).json()["id"]
    worker.claim(edit_of(first))
    worker.succeed(edit_of(first))
    again = api.http.post(f"/v1/edits/{edit_of(first)}/reproduce").json()["id"]

    page = client.fine_tuning.jobs.list(limit=2)

    assert [job.id for job in page.data] == [third.id, second.id]
    assert page.has_more is True
    assert [job.id for job in page] == [third.id, second.id, first.id]
    red = client.fine_tuning.jobs.list(metadata={"team": "red"})
    assert [job.id for job in red] == [third.id, first.id]
    none = client.fine_tuning.jobs.list(extra_query={"metadata": "null"})
    assert [job.id for job in none] == [second.id]
    for edit in (other, again):
        for call in (
            client.fine_tuning.jobs.retrieve,
            client.fine_tuning.jobs.cancel,
            client.fine_tuning.jobs.list_events,
            client.fine_tuning.jobs.checkpoints.list,
        ):
            with pytest.raises(openai.NotFoundError):
                call(f"ftjob-{edit[-26:]}")


Change = Callable[[dict[str, Any]], dict[str, Any]]
TOOL = {"type": "function", "function": {"name": "f"}}


@pytest.mark.parametrize(
    ("wrong", "method", "message"),
    [
        (preference(1, preferred_output=[]), "dpo", "preferred_output: must have at least 1 item"),
        (preference(1, better=1), "dpo", "better: there is no such field"),
        ({"input": {"messages": [said("user", "a")]}}, "dpo", "preferred_output: is required"),
        (
            preference(1, non_preferred_output=preference(1)["preferred_output"]),
            "dpo",
            "preferred_output and non_preferred_output are the same",
        ),
        (
            preference(1, preferred_output=[said("user", "a")]),
            "dpo",
            "preferred_output.0.role: it must be assistant, not user",
        ),
        (preference(1, preferred_output=[said("assistant", "")]), "dpo", "preferred_output: its"),
        (
            preference(1, input={"messages": [said("user", "a")], "tools": [TOOL]}),
            "dpo",
            "input.tools: is not supported here",
        ),
        (conversation(1), "dpo", "an example for the method dpo has input"),
        (preference(1), "supervised", "an example for the method supervised has messages"),
        ({"messages": [said("user", "a")]}, "supervised", "messages.0.role: the last message"),
        (
            {"messages": [said("user", "a"), {**said("assistant", "b"), "weight": 0}]},
            "supervised",
            "messages: every response has the weight 0",
        ),
        ({"messages": [said("assistant", "b")]}, "supervised", "messages: a response needs"),
        ({"prompt": "a", "completion": "b"}, "supervised", "earlier lines have the other form"),
        (
            {"messages": [said("tool", "a"), said("assistant", "b")]},
            "supervised",
            "messages.0.role: must be",
        ),
    ],
)
def test_a_wrong_example_is_named_by_its_line(
    client: openai.OpenAI, wrong: Any, method: str, message: str
) -> None:
    good = PREFERENCES if method == "dpo" else CONVERSATIONS

    with pytest.raises(openai.BadRequestError) as caught:
        make(client, good + lines([wrong, wrong]), method={"type": method})

    error = caught.value
    assert isinstance(error.body, dict)
    assert error.body["message"].startswith(f"training_file, line 21: {message}")
    assert error.body["message"].endswith("(and 1 more wrong line)")
    assert (error.code, error.param) == ("invalid_training_file", "training_file")
    assert error.type == "invalid_request_error"
    assert list(client.fine_tuning.jobs.list()) == []


def test_long_conversations_are_refused_before_they_multiply(client: openai.OpenAI) -> None:
    """Each response is a text with all that was said before it: here 50 times half a megabyte."""
    turns = [said("user", "a" * 10_000), said("assistant", "b" * 10_000)] * 50
    with pytest.raises(openai.BadRequestError, match="each response has all that was said") as long:
        make(client, lines([{"messages": turns}] * 2), method={"type": "supervised"})
    assert long.value.code == "invalid_training_file"


def test_too_few_and_contradicting_examples_are_refused_by_file(client: openai.OpenAI) -> None:
    with pytest.raises(openai.BadRequestError, match="15 different texts") as few:
        make(client, lines(preference(n) for n in range(15)))
    swapped = preference(1)
    swapped["preferred_output"], swapped["non_preferred_output"] = (
        swapped["non_preferred_output"],
        swapped["preferred_output"],
    )
    with pytest.raises(openai.BadRequestError, match="both undesired and desired") as both:
        make(client, PREFERENCES + lines([swapped]))
    with pytest.raises(openai.BadRequestError, match="validation_file, line 1") as held:
        make(client, validation_file=uploaded(client, CONVERSATIONS))

    assert [error.value.param for error in (few, both, held)] == [
        "training_file", "training_file", "validation_file",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "param"),
    [
        ({"model": "nothing"}, "model"),
        ({"model": "chatty:nothing"}, "model"),
        ({"suffix": "Not Allowed"}, "suffix"),
        ({"integrations": [{"type": "wandb", "wandb": {"project": "p"}}]}, "integrations"),
        ({"method": {"type": "reinforcement", "reinforcement": {}}}, "method.type"),
        (
            {"method": {"type": "dpo", "dpo": {"hyperparameters": {"beta": -1}}}},
            "method.dpo.hyperparameters.beta",
        ),
        ({"hyperparameters": {"n_epochs": 1000}}, "hyperparameters.n_epochs"),
        ({"extra_body": {"edit": {"effort": "little"}}}, "edit.effort"),
        (
            {"extra_body": {"edit": {"method": {"type": "bias", "layers": [99]}}}},
            "edit.method.layers[0]",
        ),
        ({"extra_body": {"edit": {"behavior": "negativity"}}}, "edit.behavior"),
    ],
)
def test_a_field_that_cannot_be_honoured_is_named(
    client: openai.OpenAI, changes: Any, param: str
) -> None:
    with pytest.raises(openai.BadRequestError) as caught:
        make(client, **changes)

    assert caught.value.param == param


def test_a_model_without_a_chat_template_takes_no_conversations(
    client: openai.OpenAI, worker: Worker
) -> None:
    worker.register("plain", chat_template=False)
    with pytest.raises(openai.BadRequestError, match="no chat template"):
        make(client, CONVERSATIONS, model="plain", method={"type": "supervised"})


def test_a_repeated_request_with_a_key_makes_one_job_even_without_its_file(
    client: openai.OpenAI,
) -> None:
    file = uploaded(client, PREFERENCES)
    request = {"model": "chatty", "training_file": file, "method": DPO}
    once = {"Idempotency-Key": "once"}
    first = client.fine_tuning.jobs.create(**request, extra_headers=once)  # type: ignore[arg-type]
    client.files.delete(file)

    again = client.fine_tuning.jobs.create(**request, extra_headers=once)  # type: ignore[arg-type]

    assert first == again
    assert len(list(client.fine_tuning.jobs.list())) == 1
    with pytest.raises(openai.BadRequestError, match=f"no such file: {file}"):
        client.fine_tuning.jobs.create(**request)  # type: ignore[arg-type]


def test_another_tenant_sees_nothing(tmp_path: Path, redis_server: RedisServer) -> None:
    with running_api(api_settings(tmp_path, redis_server, auth="keys")) as api:
        Worker(api.store, api.services.live.client).register("chatty", chat_template=True)
        red, blue = (
            client_of(api, api.store.keys.create(name="t", tenant=tenant)[0])
            for tenant in ("red", "blue")
        )
        with red, blue:
            job = make(red)
            for call, id in (
                (blue.files.retrieve, job.training_file),
                (blue.files.content, job.training_file),
                (blue.files.delete, job.training_file),
                (blue.fine_tuning.jobs.retrieve, job.id),
                (blue.fine_tuning.jobs.cancel, job.id),
                (blue.fine_tuning.jobs.list_events, job.id),
            ):
                with pytest.raises(openai.NotFoundError):
                    call(id)
            with pytest.raises(openai.BadRequestError, match="no such file"):
                blue.fine_tuning.jobs.create(
                    model="chatty",
                    training_file=job.training_file,
                    method=DPO,  # type: ignore[arg-type]
                )
            assert list(blue.files.list()) == list(blue.fine_tuning.jobs.list()) == []
            assert red.fine_tuning.jobs.retrieve(job.id) == job


def test_what_was_sent_is_kept_with_the_edit_without_its_texts(
    api: Api, client: openai.OpenAI
) -> None:
    job = make(client)

    body = api.store.work.read("edit", "default", edit_of(job)).request.body

    assert json.loads(json.dumps(body)) == {
        "model": "chatty", "training_file": job.training_file, "method": DPO,
    }  # fmt: skip
