"""LongBench's metrics, with the results of metrics.py of THUDM/LongBench, quirks included.

Each takes a prediction, one gold answer and the class names of the data set, and returns a number from 0 to 1.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from difflib import SequenceMatcher

from tasks.longbench.overlap import chinese_words, english_words, f1, segment
from tasks.longbench.rouge_l import rouge_l

Metric = Callable[[str, str, Sequence[str]], float]

NUMBER = re.compile(r"\d+")
PARAGRAPH = re.compile(r"Paragraph (\d+)")
PARAGRAPH_CHINESE = re.compile(r"段落(\d+)")
NOT_CODE = ("`", "#", "//")


def qa_f1(prediction: str, gold: str, classes: Sequence[str]) -> float:
    """F1 of normalised words."""
    return f1(english_words(prediction), english_words(gold))


def qa_f1_chinese(prediction: str, gold: str, classes: Sequence[str]) -> float:
    """F1 of the words that jieba finds."""
    return f1(chinese_words(prediction), chinese_words(gold))


def rouge(prediction: str, gold: str, classes: Sequence[str]) -> float:
    """ROUGE-L F; 0 for an empty prediction."""
    return rouge_l(prediction, gold)


def rouge_chinese(prediction: str, gold: str, classes: Sequence[str]) -> float:
    """ROUGE-L F of the words that jieba finds."""
    return rouge_l(" ".join(segment(prediction)), " ".join(segment(gold)))


def classification(prediction: str, gold: str, classes: Sequence[str]) -> float:
    """1 / number of the class names that the prediction holds, 0 when the gold is none of them.

    Names that are a part of the gold do not count, but for those that the published loop passes over: it removes names
    from the list that it walks, and so skips the name behind each that it removes.
    """
    held = [name for name in classes if name in prediction]
    for name in held:
        if name in gold and name != gold:
            held.remove(name)
    return 1.0 / len(held) if gold in held else 0.0


def count(prediction: str, gold: str, classes: Sequence[str]) -> float:
    """Share of the prediction's numbers that are the gold; 0 when it has none."""
    numbers = NUMBER.findall(prediction)
    return sum(number == gold for number in numbers) / len(numbers) if numbers else 0.0


def retrieval(prediction: str, gold: str, classes: Sequence[str]) -> float:
    """`count` for the number of the gold `Paragraph <number>`."""
    return count(prediction, PARAGRAPH.findall(gold)[0], classes)


def retrieval_chinese(prediction: str, gold: str, classes: Sequence[str]) -> float:
    """`count` for the number of the gold `段落<number>`."""
    return count(prediction, PARAGRAPH_CHINESE.findall(gold)[0], classes)


def code_similarity(prediction: str, gold: str, classes: Sequence[str]) -> float:
    """Similarity of the gold and the first line that is no comment and no markup, in steps of 0.01.

    fuzzywuzzy's `ratio` without python-Levenshtein, which is difflib's: with that package installed fuzzywuzzy counts
    otherwise, and so does rapidfuzz.
    """
    lines = prediction.lstrip("\n").split("\n")
    line = next((line for line in lines if not any(mark in line for mark in NOT_CODE)), "")
    if line == gold:
        return 1.0
    if not line or not gold:
        return 0.0
    matcher = SequenceMatcher(None, line, gold)
    if round(100 * matcher.quick_ratio()) == 0:  # an upper bound; saves the quadratic search in a very long line
        return 0.0
    return round(100 * matcher.ratio()) / 100
