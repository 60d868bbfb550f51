"""Model cards of exports: what stands in them, and what must not."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml

from models_store.cards import ExportFacts, Use, export_card
from models_store.schemas.catalogue import (
    GEMMA3,
    SMOLLM2,
    BaseModelSpec,
    FolderSource,
    HubSource,
)
from models_store.schemas.records import DeltaRef, Variant
from tests.app.support.sample_report import full_report, sample_report

FOLDER = BaseModelSpec(id="my-model", source=FolderSource(path=Path("/models/my-model")))
HUB = BaseModelSpec(
    id="qwen", source=HubSource(repo="Qwen/Qwen3-0.6B", revision="a" * 40), licence="apache-2.0"
)


def card(
    base: BaseModelSpec = SMOLLM2,
    *,
    strength: float = 1.0,
    point: int | None = None,
    edits: int = 1,
    **changes: Any,
) -> str:
    terms = tuple(
        DeltaRef(edit_id=f"edit_{i}", point=point, path="p", sha256="d" * 64, strength=strength)
        for i in range(edits)
    )
    facts: dict[str, Any] = {
        "id": "exp_1",
        "created_at": 1_795_515_543,
        "format": "peft",
        "variant": Variant(
            name=f"{base.id}:edit_0", base_model=base.id, base_fingerprint="f" * 64, terms=terms
        ),
        "base": base,
        "use": Use(library="peft", relation="adapter", tags=("lora",), load="Like this."),
        "proof": {"loader": "peft", "version": "1"},
        "receipts": {"edit_0": full_report()},
    }
    return export_card(ExportFacts(**{**facts, **changes}))


def front_matter(text: str) -> dict[str, Any]:
    first, data, _ = text.split("---\n", 2)
    assert first == ""
    found = yaml.safe_load(data)
    assert isinstance(found, dict)
    return found


@pytest.mark.parametrize(
    ("base", "model", "licence"),
    [
        (SMOLLM2, "HuggingFaceTB/SmolLM2-135M-Instruct", {"license": "apache-2.0"}),
        (
            GEMMA3,
            "google/gemma-3-270m",
            {
                "license": "other",
                "license_name": "gemma-terms-of-use-https-ai.google.dev-gemma-terms",
                "license_link": "https://ai.google.dev/gemma/terms",
            },
        ),
        (HUB, "Qwen/Qwen3-0.6B", {"license": "apache-2.0"}),
        (FOLDER, "my-model", {}),
    ],
    ids=lambda value: value.id if isinstance(value, BaseModelSpec) else "",
)
def test_the_hub_reads_what_it_is_made_of(
    base: BaseModelSpec, model: str, licence: dict[str, str]
) -> None:
    text = card(base)
    assert front_matter(text) == {
        "base_model": model,
        "base_model_relation": "adapter",
        "library_name": "peft",
        "pipeline_tag": "text-generation",
        **licence,
        "tags": ["scalpel", "model-edit", "lora", "bias"],
    }
    assert ("commit `" + "a" * 40 in text) == (base is HUB)
    assert ("`my-model` stands for a folder" in text) == (base is FOLDER)


@pytest.mark.parametrize("id", ["123", "true", "null", "1.0"])
def test_a_base_model_whose_name_is_a_word_of_yaml_stays_a_name(id: str) -> None:
    spec = FOLDER.model_copy(update={"id": id, "licence": 'x"\n---\nlicense: mit\n# heading'})
    data = front_matter(card(spec))
    assert (data["base_model"], data["license"]) == (id, "other")
    assert "\n# heading" not in card(spec)


def test_it_has_the_tables_of_the_receipt() -> None:
    text, report = card(), full_report()
    for heading in ("What it does", "Controls", "What it costs", "At other strengths"):
        assert f"\n### {heading}\n" in text
    for effect in report.effects:
        assert f"| {effect.scorer} | " in text
    assert "| limit | measured | 95 % | allowed | |" in text
    assert "random direction |" in text
    assert "KL(base ‖ edited) on neutral plain text" in text
    assert "Like this." in text
    assert "sha256sum -c SHA256SUMS" in text


def test_nobodys_texts_are_published_with_it() -> None:
    report = full_report()
    text = card(receipts={"edit_0": report})
    assert report.samples
    for sample in report.samples:
        for said in (sample.prompt, sample.base, sample.edited):
            assert said not in text
    assert report.damage.preserve_worst
    for kept in report.damage.preserve_worst:
        assert kept.text not in text
    wordings = [control.wording for control in report.controls if control.wording]
    assert wordings
    assert not any(wording in text for wording in wordings)
    assert "curl" not in text


def test_it_says_what_the_receipt_did_not_measure() -> None:
    alone = sample_report()
    assert "It measures" not in card(receipts={"edit_0": alone})
    weaker = card(strength=0.6, receipts={"edit_0": alone})
    assert "at strength 1. Exported at strength 0.6, it does" in weaker
    both = card(strength=-1, edits=2, receipts={"edit_0": alone, "edit_1": alone})
    assert both.count("at strength 1. Exported at strength −1 and together with others") == 2
    assert "on top of `edit_" in card(strength=0.6)
    assert "another candidate of its search" in card(point=3)
    assert "It cannot be read." in card(receipts={})


def test_it_says_what_was_measured_as_it_is_and_what_was_not_measured() -> None:
    made = sample_report()
    provenance = made.provenance.model_copy(update={"measures": "pico:edit_1@0.5"})
    method = made.method.model_copy(update={"type": "given"})
    measured = card(receipts={"edit_0": sample_report(provenance=provenance, method=method)})
    assert "Measured as it is: `pico:edit_1@0.5`." in measured
    assert "Method:" not in measured
    assert front_matter(measured)["tags"] == ["scalpel", "model-edit", "lora"]
    imported = card(receipts={}, imported={"edit_0"})
    assert "It has none: the edit was imported, and nothing was measured." in imported
    assert "cannot be read" not in imported
