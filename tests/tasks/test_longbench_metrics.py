"""LongBench's metrics against the definitions of its metrics.py, written naively on the packages that it uses."""

from __future__ import annotations

import re
import string
import sys
import warnings
from collections import Counter
from collections.abc import Iterator, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tasks.longbench import metrics
from tasks.longbench.benchmark import LongBench
from tasks.longbench.datasets import DATASETS
from tasks.longbench.overlap import CHINESE_PUNCTUATION
from tasks.longbench.rouge_l import rouge_l
from tasks.task import Example

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import jieba
    from fuzzywuzzy import fuzz
    from rouge import Rouge

CLASSES = ("Food", "Other entity", "entity", "Number of something", "Order, rank", "Ord", "农业、农村", "农业", "教育")


def plain_words(text: str) -> list[str]:
    text = "".join(character for character in text.lower() if character not in set(string.punctuation))
    return re.sub(r"\b(a|an|the)\b", " ", text).split()


def plain_chinese_words(text: str) -> list[str]:
    words = []
    for token in jieba.cut(text, cut_all=False):
        kept = "".join(c for c in token.lower() if c not in set(string.punctuation + CHINESE_PUNCTUATION))
        words.append("".join(kept.split()))
    return [word for word in words if len(word) > 0]


def plain_f1(prediction: list[str], gold: list[str]) -> float:
    same = sum((Counter(prediction) & Counter(gold)).values())
    if same == 0:
        return 0
    precision = 1.0 * same / len(prediction)
    recall = 1.0 * same / len(gold)
    return (2 * precision * recall) / (precision + recall)


def plain_rouge(prediction: str, gold: str) -> float:
    try:
        return float(Rouge().get_scores([prediction], [gold], avg=True)["rouge-l"]["f"])
    except ValueError:  # nothing but full stops
        return 0.0


def plain_count(prediction: str, wanted: str) -> float:
    numbers = re.findall(r"\d+", prediction)
    right = 0
    for number in numbers:
        if str(number) == str(wanted):
            right += 1
    return 0.0 if len(numbers) == 0 else right / len(numbers)


def plain_classification(prediction: str, gold: str, classes: Sequence[str]) -> float:
    matches = []
    for name in classes:
        if name in prediction:
            matches.append(name)
    for term in matches:
        if term in gold and term != gold:
            matches.remove(term)
    return 1.0 / len(matches) if gold in matches else 0.0


def plain_code(prediction: str, gold: str) -> float:
    chosen = ""
    for line in prediction.lstrip("\n").split("\n"):
        if ("`" not in line) and ("#" not in line) and ("//" not in line):
            chosen = line
            break
    return float(fuzz.ratio(chosen, gold) / 100)


def plain_metric(dataset: str, prediction: str, gold: str) -> float:
    metric = DATASETS[dataset].metric
    if metric is metrics.qa_f1:
        return plain_f1(plain_words(prediction), plain_words(gold))
    if metric is metrics.qa_f1_chinese:
        return plain_f1(plain_chinese_words(prediction), plain_chinese_words(gold))
    if metric is metrics.rouge:
        return plain_rouge(prediction, gold)
    if metric is metrics.rouge_chinese:
        return plain_rouge(" ".join(jieba.cut(prediction)), " ".join(jieba.cut(gold)))
    if metric is metrics.classification:
        return plain_classification(prediction, gold, CLASSES)
    if metric is metrics.code_similarity:
        return plain_code(prediction, gold)
    if metric is metrics.count:
        return plain_count(prediction, gold)
    pattern = r"Paragraph (\d+)" if metric is metrics.retrieval else r"段落(\d+)"
    return plain_count(prediction, re.findall(pattern, gold)[0])


GOLDS = {
    "hotpotqa": "The Hague, an old city",
    "multifieldqa_zh": "12.5％，约合３亿元。",
    "qmsum": "The group met. They agreed on the budget, and on the date. The end. ",
    "vcsum": "会议讨论了在线教育的问题。与会者认为，质量最重要。",
    "trec": "Other entity",
    "lsht": "农业、农村",
    "samsum": "Emilia is still angry with William.",
    "passage_count": "7",
    "passage_retrieval_en": "Paragraph 19",
    "passage_retrieval_zh": "段落5",
    "lcc": "        return self.name",
}
ADVERSARIAL = {
    "empty": "",
    "spaces": " \n\t ",
    "full stops": "...",
    "punctuation": "!?.,;:'\"()[]{}<>-—…",
    "chinese punctuation": "，。！？；：（）《》",
    "articles": "a an the A The",
    "markup": "<p>**The Hague**</p>\n\n```python\nreturn 1\n```\n| 7 | 19 |",
    "code": "```\n# Food\n        return self.names\n```",
    "numbers": "19 7 5 1 9 19.0 ٧ ７ ⁷ 007",
    "classes": "Food or Other entity, Order, rank. 农业、农村 教育",
    "later line": "\n\n\nfirst line\nThe Hague Other entity 农业、农村 Emilia is still angry",
    "crlf": "The Hague\r\nan old city",
    "arabic": "مدينة لاهاي هي مدينة قديمة",
    "combining": "e\u0301 \u200b\u200d\ufeff ﬁ İ ß \u2028 \x85 \x0b 𝔗𝔥𝔢 👩‍👩‍👧",
    "nul": "The\x00Hague\x00, an\x00old city. 19\x007",
    "chinese": "会议讨论了教育，质量重要 12.5％",
    "gold-like": "The group met. They agreed on the date, and on the budget. Paragraph 19 段落5",
}


@pytest.fixture
def deep_recursion() -> Iterator[None]:
    """The package's walk, let as deep as a test needs it."""
    before = sys.getrecursionlimit()
    sys.setrecursionlimit(20_000)
    yield
    sys.setrecursionlimit(before)


@pytest.mark.parametrize("name", ADVERSARIAL)
@pytest.mark.parametrize("dataset", GOLDS)
def test_adversarial_predictions_have_the_published_value(dataset: str, name: str) -> None:
    gold, prediction = GOLDS[dataset], ADVERSARIAL[name]
    for text in (prediction, gold + prediction, prediction + gold):
        assert DATASETS[dataset].metric(text, gold, CLASSES) == plain_metric(dataset, text, gold)


PIECES = st.sampled_from([*ADVERSARIAL.values(), *CLASSES, *GOLDS.values(), " ", ".", "\n", "the", "7", "爱"])
TEXTS = st.lists(PIECES | st.text(max_size=8), max_size=6).map("".join)


@pytest.mark.parametrize("dataset", GOLDS)
@settings(max_examples=40, deadline=None)
@given(text=TEXTS, drawn=TEXTS)
def test_any_text_has_the_published_value(dataset: str, text: str, drawn: str) -> None:
    gold = {"passage_retrieval_en": "Paragraph 7", "passage_retrieval_zh": "段落7"}.get(dataset, drawn)
    assert DATASETS[dataset].metric(text, gold, CLASSES) == plain_metric(dataset, text, gold)


SENTENCES = st.lists(st.sampled_from(["a", "b", "c", "d", "e", "f", ".", ".  "]), max_size=40).map(" ".join)


@settings(max_examples=300, deadline=None)
@given(prediction=SENTENCES, gold=SENTENCES)
def test_rouge_walks_to_the_same_common_words_as_the_package(prediction: str, gold: str) -> None:
    """Few words make many longest common subsequences; words count once, so that it matters which is taken."""
    assert rouge_l(prediction, gold) == plain_rouge(prediction, gold)


def test_rouge_of_long_sentences_is_the_package_without_its_recursion_limit(deep_recursion: None) -> None:
    prediction = " ".join(f"w{i * i % 97}" for i in range(700))
    gold = " ".join(f"w{i * 7 % 101}" for i in range(600))
    assert rouge_l(prediction, gold) == plain_rouge(prediction, gold) > 0.5


@settings(max_examples=200, deadline=None)
@given(prediction=st.lists(st.sampled_from(["x", "ab", "abc", "b", "xab"]), max_size=5).map(" ".join), gold=st.data())
def test_classification_keeps_the_loop_that_skips(prediction: str, gold: st.DataObject) -> None:
    classes = ("a", "ab", "b", "abc", "x")
    wanted = gold.draw(st.sampled_from(classes))
    assert metrics.classification(prediction, wanted, classes) == plain_classification(prediction, wanted, classes)


def test_classification_by_hand() -> None:
    # Both parts of the gold are held; the loop removes the first and never looks at the second.
    assert metrics.classification("abc", "abc", ("a", "b", "abc")) == 0.5
    assert metrics.classification("abc", "abc", ("a", "abc")) == 1.0
    assert metrics.classification("abc", "b", ("a", "b", "abc")) == pytest.approx(1 / 3)
    assert metrics.classification("", "abc", ("a", "abc")) == 0.0


def test_code_similarity_is_difflibs() -> None:
    """The longest block `pq` hides five letters in order: an edit distance, as in python-Levenshtein, gives 0.42."""
    assert metrics.code_similarity("pqa1b1c1d1e1", "a2b2c2d2e2pq", ()) == 0.17
    assert metrics.code_similarity("// no\n# no\n`no`\n  return x", "  return x", ()) == 1.0
    assert metrics.code_similarity("# only a comment", "x", ()) == 0.0
    assert metrics.code_similarity("# only a comment", "", ()) == 1.0


LONG = {
    "one word": "word" * 25_000,
    "one letter": "a " * 50_000,
    "short sentences": "".join(f"the {i}. " for i in range(9_000)),
    "gold again": "The group met. They agreed on the budget. " * 2_400,
    "chinese": "会议讨论了在线教育的问题" * 3_000,
    "one han": "爱" * 5_000,  # 15 kB: jieba is quadratic in a run of characters that form no word
    "digits": "19 " * 33_000,
    "code": "        return self.name" * 4_000,
    "full stops": "." * 100_000,
    "punctuation": "!?" * 50_000,
    "nul": "\x00" * 100_000,
}


@pytest.mark.parametrize("name", LONG)
def test_very_long_predictions_are_scored(name: str) -> None:
    for dataset, gold in GOLDS.items():
        assert 0 <= DATASETS[dataset].metric(LONG[name], gold, CLASSES) <= 1


def example(*references: str) -> Example:
    return Example("x", "", "", references, 1)


def test_the_best_gold_counts() -> None:
    task = LongBench(dataset="hotpotqa", data="sample")
    made = example("no", "the Hague", "Hague city")
    assert task.score(made, "Hague").value == 1.0
    assert task.score(made, "Hague").exact
    assert task.score(made, "in Hague").value == pytest.approx(2 / 3)
    assert not task.score(made, "in Hague").exact
    assert task.score(example("..."), "").value == 0.0


def test_full_rouge_is_exact() -> None:
    task = LongBench(dataset="qmsum", data="sample")
    score = task.score(example("They met. They left."), "They met. They left.")
    assert 1 - 1e-8 < score.value < 1
    assert score.exact


@pytest.mark.parametrize("dataset", [name for name in DATASETS if DATASETS[name].metric is metrics.qa_f1])
def test_only_the_first_line_counts_where_it_is_published(dataset: str) -> None:
    """Line ends before it are passed over, other white space is a line."""
    task, made = LongBench(dataset=dataset), example("Hague")
    cut = dataset == "triviaqa"
    assert task.score(made, "\n\nHague\nan old city").exact == cut
    assert task.score(made, " \nHague").exact != cut


def test_four_data_sets_are_cut_to_the_first_line() -> None:
    assert {name for name in DATASETS if DATASETS[name].first_line} == {"trec", "triviaqa", "samsum", "lsht"}


def test_the_mean_has_the_published_decimals() -> None:
    """eval.py: round(100 * sum / count, 2)."""
    task = LongBench(dataset="hotpotqa")
    predictions = ["Hague", "in Hague", "", "old Hague town hall"]
    values = [max(plain_metric("hotpotqa", text, gold) for gold in ("Hague", "city")) for text in predictions]
    total = sum(values)
    scores = [task.score(example("Hague", "city"), text).value for text in predictions]
    assert round(100 * sum(scores) / len(scores), 2) == round(100 * total / len(values), 2) == 51.67
