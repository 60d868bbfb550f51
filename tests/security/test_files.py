"""Chat templates come with a model: they see messages and nothing else, and come to an end."""

from __future__ import annotations

from pathlib import Path

import pytest

from models_store.errors import InvalidRequest
from tests.support.pico import pico_tokenizer
from workers.runtime.chat_template import render_chat

MESSAGES = [{"role": "user", "content": "hi"}]


def render(template: str, seconds: float = 0.5) -> str:
    tokenizer = pico_tokenizer(chat=True)
    tokenizer.chat_template = template
    return render_chat(tokenizer, MESSAGES, seconds=seconds)


def test_an_ordinary_template_is_rendered() -> None:
    assert render("{% for one in messages %}{{ one.content }}!{% endfor %}") == "hi!"


@pytest.mark.parametrize(
    "template",
    [
        "{{ messages.__class__.__mro__[1].__subclasses__() }}",
        "{{ cycler.__init__.__globals__.os.system('touch FILE') }}",
        "{{ lipsum.__globals__['os'].popen('touch FILE').read() }}",
        "{{ messages.append(1) }}",
        "{% include 'FILE' %}",
        "{% import 'os' as os %}",
        "{{ raise_exception('no') }}",
    ],
)
def test_a_template_reaches_nothing_but_the_messages(template: str, tmp_path: Path) -> None:
    file = tmp_path / "made"
    with pytest.raises(InvalidRequest, match="refuses the conversation"):
        render(template.replace("FILE", str(file)))
    assert not file.exists()


@pytest.mark.parametrize(
    "template",
    ["{{ self._TemplateReference__context }}", "{{ ''|attr('__class__')|attr('__mro__') }}"],
)
def test_what_a_template_must_not_see_is_nothing(template: str) -> None:
    assert render(template) == ""


@pytest.mark.parametrize(
    "template",
    [
        "{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}",
        "{% for i in range(99999) %}{% for j in range(9999) %}aaaa{% endfor %}{% endfor %}",
        "{% macro f() %}{{ f() }}{{ f() }}{% endmacro %}{{ f() }}",
        "{% set n = namespace(x='aaaaaaaaaa') %}"
        "{% for i in range(90) %}{% set n.x = n.x ~ n.x %}{% endfor %}",
    ],
)
def test_a_template_without_end_is_stopped(template: str) -> None:
    with pytest.raises(InvalidRequest, match="does not come to an end"):
        render(template)
