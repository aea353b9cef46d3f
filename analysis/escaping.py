"""Text of unknown origin made safe to print: a model may emit markup, control characters or anything else."""

from __future__ import annotations

import re
import unicodedata

LATEX = {
    "\\": r"\textbackslash{}",
    "{": r"\{",
    "}": r"\}",
    "$": r"\$",
    "&": r"\&",
    "#": r"\#",
    "%": r"\%",
    "_": r"\_",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "|": r"\textbar{}",
    '"': r"\textquotedbl{}",
    "…": r"\ldots{}",
    "—": "---",
    "†": r"\textdagger{}",
}
# Brackets matter only where a link would follow, an underscore only at the edge of a word.
MARKDOWN = re.compile(r"([\\`*|<>&~$]|\](?=[(\[:])|(?<![A-Za-z0-9])_|_(?![A-Za-z0-9]))")


def visible(text: str, limit: int | None = None) -> str:
    """`text` on one line, at most `limit` characters; control and format characters are written as \\x.. or \\u...."""
    shown = "".join(_code(c) if unicodedata.category(c) in {"Cc", "Cf", "Cs", "Zl", "Zp"} else c for c in text)
    return shown if limit is None or len(shown) <= limit else shown[: limit - 1] + "…"


def _code(character: str) -> str:
    value = ord(character)
    return f"\\x{value:02x}" if value < 256 else f"\\u{value:04x}"


def latex(text: str) -> str:
    """`text` as LaTeX that prints it; characters that pdfLaTeX may not know are written as their code point."""
    return "".join(LATEX.get(c, c if ord(c) < 128 else rf"\texttt{{U+{ord(c):04X}}}") for c in visible(text))


def markdown(text: str) -> str:
    """`text` for a cell of a Markdown table: neither Markdown nor HTML in it takes effect."""
    return MARKDOWN.sub(r"\\\1", visible(text))
