"""Token overlap of LongBench's question answering: normalised words, and their F1 (metrics.py of THUDM/LongBench)."""

from __future__ import annotations

import logging
import re
import string
import warnings
from collections import Counter
from collections.abc import Sequence
from functools import lru_cache

ARTICLES = re.compile(r"\b(a|an|the)\b")
CHINESE_PUNCTUATION = (
    "！？｡。＂＃＄％＆＇（）＊＋，－／：；＜＝＞＠［＼］＾＿｀｛｜｝～｟｠｢｣､、〃"
    "》「」『』【】〔〕〖〗〘〙〚〛〜〝〞〟〰〾〿–—‘’‛“”„‟…‧﹏."
)
DELETED = str.maketrans("", "", string.punctuation)
DELETED_CHINESE = str.maketrans("", "", string.punctuation + CHINESE_PUNCTUATION)


def english_words(text: str) -> list[str]:
    """Lowercase words without ASCII punctuation and articles."""
    return ARTICLES.sub(" ", text.lower().translate(DELETED)).split()


def chinese_words(text: str) -> list[str]:
    """Words as jieba cuts them, lowercase, without punctuation and white space; what is left empty is dropped."""
    words = ("".join(word.lower().translate(DELETED_CHINESE).split()) for word in segment(text))
    return [word for word in words if word]


@lru_cache(maxsize=2)
def segment(text: str) -> tuple[str, ...]:
    """The words of a Chinese text, jieba's accurate mode. Nothing is lost: joined they are the text.

    The last two are kept, so that a prediction is cut once for all its golds. The time is quadratic in the longest run
    of characters that form no word of the dictionary, but LongBench's answers end at 512 tokens: at most 3,072 Han
    characters with Qwen's vocabulary, whose longest token has 6, segmented in less than 0.1 s.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # jieba 0.42 has invalid escapes and an import that setuptools deprecates
        import jieba

    jieba.setLogLevel(logging.WARNING)  # it tells of its dictionary on stderr
    return tuple(jieba.cut(text, cut_all=False))


def f1(prediction: Sequence[str], gold: Sequence[str]) -> float:
    """F1 of two multisets of words, from 0 to 1."""
    common = sum((Counter(prediction) & Counter(gold)).values())
    if common == 0:
        return 0.0
    precision, recall = common / len(prediction), common / len(gold)
    return 2 * precision * recall / (precision + recall)
