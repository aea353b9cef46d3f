"""ROUGE-L as the package `rouge` 1.0 computes it, which LongBench's metrics.py calls, without its limits.

The package builds a table of words x words for each pair of sentences and walks it by recursion. Where a walk is longer
than Python's recursion limit (1,000, less the caller's frames), LongBench's script catches the error and scores 0; here
such pairs get their ROUGE-L. Text without ASCII full stops is one sentence, so that this needs a prediction and a gold
of together about 1,000 words. On anything shorter the numbers are the package's, bit for bit.
"""

from __future__ import annotations

from collections.abc import Sequence


def rouge_l(prediction: str, gold: str) -> float:
    """Summary-level ROUGE-L F, from 0 to 1; a text that equals the gold gets 1 less 5e-9.

    Words count once, whatever their frequency: the package's `exclusive` mode, its default. Where the package raises,
    for a text of nothing but full stops, the value is 0, as in metrics.py.
    """
    told, wanted = _sentences(prediction), _sentences(gold)
    if not told or not wanted:
        return 0.0
    common: set[str] = set()
    for sentence in wanted:
        words = sentence.split(" ")
        for other in dict.fromkeys(told):
            common |= common_words(words, other.split(" "))
    precision = len(common) / len({word for sentence in told for word in sentence.split(" ")})
    recall = len(common) / len({word for sentence in wanted for word in sentence.split(" ")})
    return 2.0 * ((precision * recall) / (precision + recall + 1e-8))


def common_words(gold: Sequence[str], told: Sequence[str]) -> set[str]:
    """The words of one longest common subsequence: the one that the package's walk finds.

    The table is kept as one integer a row, whose bit j is 0 where column j raises the length (Crochemore et al. 2001, A
    fast and practical bit-vector algorithm for the longest common subsequence problem). That is all the walk asks for.
    """
    known = set(gold)
    told = [word for word in told if word in known]  # the walk passes a column without a match in any row
    columns: dict[str, int] = {}
    for column, word in enumerate(told):
        columns[word] = columns.get(word, 0) | 1 << column
    every = row = (1 << len(told)) - 1
    table = []
    for word in gold:
        matched = row & columns.get(word, 0)
        row = ((row + matched) | (row - matched)) & every
        table.append(row)
    found = set()
    i, j = len(gold) - 1, len(told) - 1
    while i >= 0 and j >= 0:
        if gold[i] == told[j]:
            found.add(gold[i])
            i, j = i - 1, j - 1
        elif table[i] >> j & 1:
            j -= 1
        else:
            i -= 1
    return found


def _sentences(text: str) -> list[str]:
    """What stands between full stops, white space made single; blank stretches stay as sentences of one empty word."""
    return [" ".join(part.split()) for part in text.split(".") if part]
