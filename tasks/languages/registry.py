"""The languages by name."""

from __future__ import annotations

from tasks.errors import unknown_name
from tasks.languages.english import English
from tasks.languages.language import Language
from tasks.languages.tiny import Tiny

LANGUAGES: dict[str, Language] = {language.name: language for language in (Tiny(), English())}


def language_named(name: str) -> Language:
    """The language of that name. Raises TaskError when there is none."""
    if name not in LANGUAGES:
        raise unknown_name("language", name, LANGUAGES)
    return LANGUAGES[name]
