"""Chat templates come with a model: they see messages and nothing else, and come to an end."""

from __future__ import annotations

import contextlib
import os
import resource
import time
from pathlib import Path

import pytest
from transformers import PreTrainedTokenizerFast

from models_store.errors import InvalidRequest
from tests.support.pico import CHAT_TEMPLATE, pico_tokenizer
from workers.runtime import chat_template
from workers.runtime.chat_template import check_template, render_chat

MESSAGES = [{"role": "user", "content": "hi"}]


def with_template(template: str) -> PreTrainedTokenizerFast:
    tokenizer = pico_tokenizer(chat=True)
    tokenizer.chat_template = template
    return tokenizer


def render(template: str, seconds: float = 0.5) -> str:
    return render_chat(with_template(template), MESSAGES, seconds=seconds)


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


HUGE = [
    "(7**8)**(9**9)",
    "2**(10**9)",
    "-2**(10**9)",
    "10**99999999",
    "(10**9999)**9999",
    "(2**30000000)*(2**30000000)",
    "'a' * 10**9",
    "10**9 * 'a'",
    "'a' * 99999999 * 9",
    "[1] * 10**9",
    "(1,) * 10**9",
    "10**9 * [messages]",
    "('a' * 3000000) + ('b' * 3000000)",
    "'%999999999d' % 1",
    "'%.999999999f' % 1.5",
    "'%*d' % (999999999, 1)",
    "'%0999999999d' % 1",
    "'%-999999999s' % 'a'",
    "'%999999999d'|format(1)",
    "'%*d'|format(999999999, 1)",
    "'{:999999999}'.format(1)",
    "'{:>999999999}'.format('a')",
    "'{0:{1}}'.format(1, 999999999)",
    "'{:.999999999f}'.format(1.5)",
    "'a'.center(10**9)",
    "'a'.ljust(10**9)",
    "'a'.rjust(10**9, 'b')",
    "'a'.zfill(10**9)",
    "('\\t' * 3000000).expandtabs(9999)",
    "'\\t'.expandtabs(10**9)",
    "'a'|center(10**9)",
    "'a'|indent(10**9, first=True)",
    "('a\\n' * 1000000)|indent(9999)",
    "('a' * 2000000)|replace('a', 'b' * 2000000)",
    "('a' * 2000000).replace('a', 'b' * 2000000)",
    "('a' * 2000000).replace('', 'b' * 1000)",
    "(('a,' * 1000000).split(','))|join('b' * 1000000)",
    "('b' * 1000000).join(('a,' * 1000000).split(','))",
    "range(60)|join('b' * 3900000)",
    "(range(60)|map('string'))|join('b' * 3900000)",
    "'{x:>90000000}'.format_map({'x': 'a'})",
    "'{0:{1}}'.format('a', '150000000')",
    "(range(100)|list)|tojson(indent=3900000)",
    "('a' * 3900000) ~ ('b' * 3900000) ~ ('c' * 3900000)",
    "[1]|batch(10**9, 0)|list",
    "messages|tojson(indent=10**9)",
    "1.5|round(10**9)",
    "range(10**9)|list",
    "range(10**9)|sum",
    "lipsum(n=10**9)",
    "('a' * 100000)|urlize",
    "('<' * 100000)|striptags",
    "('a ' * 100000)|wordwrap(1)",
    "messages|pprint",
    "range(99999)|random",
]


@pytest.mark.parametrize("expression", HUGE)
def test_no_single_expression_builds_something_huge_or_takes_long(expression: str) -> None:
    before, began = peak_mib(), time.process_time()
    with contextlib.suppress(InvalidRequest):
        assert len(render("{{ " + expression + " }}", seconds=5)) < 1_000_000
    assert time.process_time() - began < 3
    assert peak_mib() - before < 200


def peak_mib() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


def test_what_is_written_piece_by_piece_is_bounded_too() -> None:
    with pytest.raises(InvalidRequest, match="does not come to an end"):
        render("{% set a = 'a' * 3900000 %}{% for i in range(100) %}{{ a }}{% endfor %}", 5)


ORDINARY = [
    "{% for m in messages %}{{ '%s: %s' % (m.role, m.content) }}{% endfor %}",
    "{{ (messages|length * 2 + 1) ** 2 }}{{ '-' * 20 }}{{ bos_token }}",
    "{{ messages|map(attribute='content')|join(', ')|upper|replace('H', 'J')|indent(4) }}",
    "{{ messages[0].content.split('i')|list|tojson }}{{ messages|tojson(indent=2) }}",
    "{% generation %}{{ messages[-1]['content'].strip().ljust(12) }}{% endgeneration %}",
    "{{ 'a' ~ 1 ~ none ~ messages[0].content ~ 2.5 }}{{ [1, 2] ~ {'a': true} }}",
    "{{ messages|map(attribute='role')|list|join }}{{ range(3)|join('-') }}",
    "{% for m in messages %}{% if loop.first %}{% continue %}{% endif %}{{ m }}{% endfor %}",
]


@pytest.mark.parametrize("template", [CHAT_TEMPLATE, *ORDINARY])
def test_a_template_gives_what_the_library_makes_of_it(template: str) -> None:
    tokenizer = with_template(template)
    for messages in (MESSAGES, [{"role": "system", "content": "Be {{ kind }}."}, *MESSAGES]):
        theirs = tokenizer.apply_chat_template(messages, tokenize=False, add_generation_prompt=True)
        assert render_chat(tokenizer, messages) == theirs


def test_at_registration_a_template_is_tried_by_a_child_with_little_time_and_memory() -> None:
    check_template(with_template(CHAT_TEMPLATE))
    with pytest.raises(InvalidRequest, match="refuses the conversation: no"):
        check_template(with_template("{{ raise_exception('no') }}"))


def test_a_template_that_takes_too_much_memory_is_not_tried_again_without_a_limit(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    here = os.getpid()

    def greedy(*_: object) -> str:
        assert os.getpid() != here, "rendered where nothing limits it"
        try:
            return "a" * 2**31
        except MemoryError as error:
            raise InvalidRequest("it does not come to an end") from error

    monkeypatch.setattr(chat_template, "render_chat", greedy)
    with pytest.raises(InvalidRequest, match="does not come to an end"):
        check_template(with_template(CHAT_TEMPLATE))


def test_what_only_the_kernel_can_stop_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    """As an operation would that nobody has thought of."""
    monkeypatch.setattr(chat_template, "_CHILD_SECONDS", 1)
    monkeypatch.setattr(chat_template, "render_chat", lambda *_: sum(range(10**12)))
    began = time.monotonic()
    with pytest.raises(InvalidRequest, match="too long or too much memory"):
        check_template(with_template(CHAT_TEMPLATE))
    assert time.monotonic() - began < 10
