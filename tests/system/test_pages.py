"""The commands of the documentation's pages, run as they stand there."""

from __future__ import annotations

import os
import re
import sys
from itertools import islice
from pathlib import Path

import pytest
from pydantic_core import to_json

from models_store.presets import load_preset
from models_store.schemas.items import text_of
from tests.support.hub import TOKEN, running_hub
from tests.system.service import Service, run_commands

pytestmark = [pytest.mark.system, pytest.mark.timeout(900)]

DOCS = Path(__file__).parents[2] / "docs"


def preferences() -> bytes:
    """Texts of a preset as examples for `dpo`."""
    preset = load_preset("negativity")
    triples = zip(preset.prompts, preset.desired, preset.undesired, strict=False)
    examples = (
        {
            "input": {"messages": [{"role": "user", "content": prompt.text}]},
            "preferred_output": [{"role": "assistant", "content": text_of(desired)}],
            "non_preferred_output": [{"role": "assistant", "content": text_of(undesired)}],
        }
        for prompt, desired, undesired in triples
    )
    return b"\n".join(to_json(example) for example in islice(examples, 120))


@pytest.mark.parametrize(
    ("page", "last_words"),
    [
        ("guide.md", '"object":"base_model","deleted":true}'),
        ("api.md", '"status":"ready"'),
        ("cli.md", "3"),
    ],
    ids=["guide", "api", "cli"],
)
def test_the_commands_of_a_page_work_word_for_word(
    page: str, last_words: str, pico_service: Service, edited_pico_folder: Path, tmp_path: Path
) -> None:
    text = (DOCS / page).read_text(encoding="utf-8")
    blocks = re.findall(r"^```sh\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    pico_service.clear()  # other pages make edits with the same suffixes
    with running_hub() as hub:
        done = run_commands(
            pico_service,
            "\n".join(blocks),
            tmp_path,
            BASE_FOLDER=str(edited_pico_folder),
            MODEL_FOLDER=str(edited_pico_folder),
            PATH=f"{Path(sys.executable).parent}:{os.environ['PATH']}",
            HF_ENDPOINT=hub.url,
            HF_TOKEN=TOKEN,
            HF_HUB_DISABLE_XET="1",
            XDG_CONFIG_HOME=str(tmp_path / "config"),
        )

    assert done.status == 0, done.output[-2000:] + done.errors + pico_service.logs()
    assert last_words in done.output.splitlines()[-1]
    assert (tmp_path / "kinder.safetensors").stat().st_size > 0
    assert (tmp_path / "kinder-peft.zip").stat().st_size > 0
    assert "data: [DONE]" in done.output or page != "api.md"
    if page == "cli.md":
        assert re.search(r"^status +succeeded *$", done.output, re.MULTILINE)
        assert "Effect: share of undesired generations" in done.output
        assert re.search(r"^edit: ", done.output, re.MULTILINE)
        digests = re.findall(r"^([0-9a-f]{64})  kinder.safetensors$", done.output, re.MULTILINE)
        assert len(digests) == 2
        assert len(set(digests)) == 1
        assert "4 files in kinder-peft, proved equal by peft" in done.errors
        assert "</html>" in (tmp_path / "receipt.html").read_text(encoding="utf-8")


def test_the_program_for_openais_client_works_word_for_word(
    pico_service: Service, tmp_path: Path
) -> None:
    text = (DOCS / "from_openai.md").read_text(encoding="utf-8")
    (program,) = re.findall(r"^```python\n(.*?)^```", text, re.DOTALL | re.MULTILINE)
    (tmp_path / "program.py").write_text(program, encoding="utf-8")
    (tmp_path / "preferences.jsonl").write_bytes(preferences())

    done = run_commands(pico_service, f"{sys.executable} program.py", tmp_path)

    assert done.status == 0, done.output + done.errors + pico_service.logs()
    assert "info Created fine-tuning job: ftjob-" in done.output
    assert "info The job has successfully completed" in done.output
    assert re.search(r"^0 smollm2-135m-instruct:edit_\w+~0$", done.output, re.MULTILINE)


def test_lines_that_wait_for_what_has_failed_end_and_say_why(
    pico_service: Service, tmp_path: Path
) -> None:
    code = """
    curl -sf "$SCALPEL_URL/v1/base_models" -H 'Content-Type: application/json' \\
      -d '{"id": "missing", "source": {"type": "folder", "path": "/nowhere"}}'
    until false; do sleep 1; done
    """
    with pytest.raises(AssertionError, match=r"base_model missing failed: .*/nowhere"):
        run_commands(pico_service, code, tmp_path)
    with pico_service.client() as client:
        client.delete("/v1/base_models/missing").raise_for_status()
