"""Chat templates: Jinja rendered as transformers renders it (`utils/chat_template_utils.py`), in a sandbox.

A template comes with a checkpoint, so it is a stranger's code: it runs in Jinja's immutable sandbox, and sees the
messages, the special tokens and the options of `model.chat`, nothing else. Also no clock: a template that asks for the
day is told `model.chat.date`, so that a prompt is the same on every day.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from datetime import date
from typing import TYPE_CHECKING, Any

from mage.errors import UserError

if TYPE_CHECKING:
    from jinja2 import Template

CHATML = (
    "{%- if messages[0]['role'] != 'system' %}"
    "{{- '<|im_start|>system\\nYou are a helpful assistant.<|im_end|>\\n' }}"
    "{%- endif %}"
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
"""What the templates of Qwen2.5 and Fast-dLLM v2 say to messages without tools, but for the name in the system turn."""


DATE = "2025-01-01"
"""The day that a template is told where `model.chat.date` does not say another."""


class ChatTemplate:
    """A template with the names it may use.

    text: the Jinja source. tokens: special tokens by name (`bos_token`). options: `model.chat`, such as
    `{enable_thinking: false}`; `date`, as `"2025-01-01"` (which is the default), is also what `strftime_now` formats;
    `template` is Jinja source that stands in for `text`.
    place: the file the text comes from, for messages. Raises `UserError` when the template cannot be parsed or does not
    render one user message, or for a date that is none.
    """

    def __init__(self, text: str, tokens: Mapping[str, str], options: Mapping[str, Any], place: str) -> None:
        names = dict(options)
        if "template" in names:
            text, place = names.pop("template"), "model.chat.template"
            if not isinstance(text, str):
                raise UserError(f"{place}={text}: not a text. Allowed: the Jinja source of a chat template.")
        self._names = {"tools": None, "documents": None, **tokens, **names}
        self._place = place
        self.digest = hashlib.sha256(json.dumps([text, dict(tokens)], sort_keys=True).encode()).hexdigest()
        day = _day(options.get("date", DATE))
        try:
            self._template = _compiled(text, day)
        except Exception as error:
            raise UserError(f"{place}: the chat template is broken: {_line(error)}.") from error
        self.render("x")

    def render(self, text: str) -> str:
        """Return `text` as the user's turn, up to where the assistant's answer begins."""
        messages = [{"role": "user", "content": text}]
        try:
            return self._template.render(messages=messages, add_generation_prompt=True, **self._names)
        except Exception as error:  # a template may do anything, also divide by zero
            raise UserError(f"{self._place}: the chat template does not render a message: {_line(error)}.") from error


def _day(text: object) -> date:
    try:
        return date.fromisoformat(str(text))
    except ValueError as error:
        raise UserError(f"model.chat.date={text}: not a day. Allowed: YYYY-MM-DD, such as {DATE}.") from error


def _compiled(text: str, day: date) -> Template:
    from jinja2 import TemplateError, nodes
    from jinja2.ext import Extension, loopcontrols
    from jinja2.parser import Parser
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    class Generation(Extension):
        """`{% generation %}` marks the assistant's words for training; here they are words like others."""

        tags = {"generation"}  # noqa: RUF012 - Jinja's own interface

        def parse(self, parser: Parser) -> nodes.Node | list[nodes.Node]:
            next(parser.stream)
            return parser.parse_statements(("name:endgeneration",), drop_needle=True)

    def raise_exception(message: str) -> None:
        raise TemplateError(message)

    def tojson(value: Any, ensure_ascii: bool = False, **layout: Any) -> str:
        return json.dumps(value, ensure_ascii=ensure_ascii, **layout)  # Jinja's own filter escapes HTML

    environment = ImmutableSandboxedEnvironment(
        trim_blocks=True, lstrip_blocks=True, extensions=[Generation, loopcontrols]
    )
    environment.filters["tojson"] = tojson
    environment.globals["raise_exception"] = raise_exception
    environment.globals["strftime_now"] = day.strftime
    return environment.from_string(text)


def _line(error: Exception) -> str:
    said = " ".join(str(error).split()) or type(error).__name__
    return said.rstrip(".")
