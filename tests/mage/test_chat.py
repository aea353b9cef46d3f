"""Chat templates: rendered as transformers renders them, but for the clock, which no template sees."""

from __future__ import annotations

from typing import Any

import pytest

from mage.errors import UserError
from mage.models.chat import ChatTemplate

THINKING = (
    "{%- for message in messages %}\n    {%- if loop.first and bos_token is defined %}{{ bos_token }}{% endif %}\n"
    "    <{{ message.role }}>{{ message['content'] | trim }}{{ eos_token }}\n"
    "    {%- if tools is none %}{% continue %}{% endif %}\n{%- endfor %}\n"
    "{%- if add_generation_prompt %}<assistant>{% endif %}"
    "{%- if enable_thinking is defined and enable_thinking is false %}<think></think>{% endif %}"
    "{% generation %}{{ [1, 'é'] | tojson }}{% endgeneration %}{{ strftime_now('%Y') | length }}"
)


@pytest.mark.parametrize("options", [{}, {"enable_thinking": False}, {"enable_thinking": True}], ids=str)
def test_templates_render_as_transformers_renders_them(options: dict[str, Any]) -> None:
    from transformers.utils.chat_template_utils import render_jinja_template

    chat = [{"role": "user", "content": " Hi <b> "}]
    tokens = {"bos_token": "<s>", "eos_token": "</s>"}
    (expected,), _ = render_jinja_template(
        [chat], chat_template=THINKING, add_generation_prompt=True, **tokens, **options
    )
    assert ChatTemplate(THINKING, tokens, options, "here").render(" Hi <b> ") == expected
    assert ("<think></think>" in expected) == (options.get("enable_thinking") is False)


@pytest.mark.parametrize(("options", "day"), [({}, "01 Jan 2025"), ({"date": "2026-03-09"}, "09 Mar 2026")])
def test_a_template_is_told_a_declared_day_and_never_the_clock(options: dict[str, Any], day: str) -> None:
    template = "{{ strftime_now('%d %b %Y') }} {{ strftime_now('%H:%M:%S') }}: {{ messages[0].content }}"
    assert ChatTemplate(template, {}, options, "here").render("x") == f"{day} 00:00:00: x"


@pytest.mark.parametrize("day", ["today", "2025-13-01", 2025, None])
def test_a_date_that_is_none_is_refused(day: object) -> None:
    with pytest.raises(UserError, match=rf"model\.chat\.date={day}: not a day. Allowed: YYYY-MM-DD"):
        ChatTemplate("x", {}, {"date": day}, "here")
