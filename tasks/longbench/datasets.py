"""The 21 data sets of LongBench v1: how each is asked, stopped and scored.

Prompts and lengths are the published files, unchanged (config/ of THUDM/LongBench, MIT licence, Copyright 2023
THU-KEG & Zhipu AI): dataset2prompt.json, dataset2maxlen.json. Metrics and the first-line cut follow eval.py; the chat
template's exceptions and the stop of samsum follow pred.py.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from functools import cache
from importlib.resources import files
from typing import Any

from tasks.longbench import metrics
from tasks.longbench.metrics import Metric


@dataclass(frozen=True)
class Dataset:
    """`label`: what the metric is called. `gold`: what every answer must hold for the metric to be defined.

    `few_shot`: the prompt is a text to continue: no chat template. `first_line`: only that line of a prediction counts.
    `stop_texts`: see tasks.task.Example.
    """

    metric: Metric
    label: str
    gold: re.Pattern[str] | None = None
    few_shot: bool = False
    first_line: bool = False
    stop_texts: tuple[str, ...] = ()

    @property
    def classifies(self) -> bool:
        """Whether the metric needs the class names."""
        return self.metric is metrics.classification


_QA = Dataset(metrics.qa_f1, "F1")
_SUMMARY = Dataset(metrics.rouge, "ROUGE-L")
_SUMMARY_CHINESE = Dataset(metrics.rouge_chinese, "ROUGE-L")
_CLASSES = Dataset(metrics.classification, "accuracy", few_shot=True, first_line=True)
_CODE = Dataset(metrics.code_similarity, "edit similarity", few_shot=True)

DATASETS = {
    "narrativeqa": _QA,
    "qasper": _QA,
    "multifieldqa_en": _QA,
    "multifieldqa_zh": Dataset(metrics.qa_f1_chinese, "F1"),
    "hotpotqa": _QA,
    "2wikimqa": _QA,
    "musique": _QA,
    "dureader": _SUMMARY_CHINESE,
    "gov_report": _SUMMARY,
    "qmsum": _SUMMARY,
    "multi_news": _SUMMARY,
    "vcsum": _SUMMARY_CHINESE,
    "trec": _CLASSES,
    "triviaqa": Dataset(metrics.qa_f1, "F1", few_shot=True, first_line=True),
    "samsum": Dataset(metrics.rouge, "ROUGE-L", few_shot=True, first_line=True, stop_texts=("\n",)),
    "lsht": _CLASSES,
    "passage_count": Dataset(metrics.count, "accuracy"),
    "passage_retrieval_en": Dataset(metrics.retrieval, "accuracy", gold=metrics.PARAGRAPH),
    "passage_retrieval_zh": Dataset(metrics.retrieval_chinese, "accuracy", gold=metrics.PARAGRAPH_CHINESE),
    "lcc": _CODE,
    "repobench-p": _CODE,
}

EXTENDED = (
    "qasper",
    "multifieldqa_en",
    "hotpotqa",
    "2wikimqa",
    "gov_report",
    "multi_news",
    "trec",
    "triviaqa",
    "samsum",
    "passage_count",
    "passage_retrieval_en",
    "lcc",
    "repobench-p",
)
"""The data sets of LongBench-E."""


def prompt_of(dataset: str) -> str:
    """The published prompt of a data set, with the fields `{context}` and `{input}`."""
    return str(_published("dataset2prompt.json")[dataset])


def new_tokens_of(dataset: str) -> int:
    """The published limit of generated tokens."""
    return int(_published("dataset2maxlen.json")[dataset])


@cache
def _published(name: str) -> dict[str, Any]:
    return dict(json.loads(files("tasks.longbench").joinpath(name).read_text(encoding="utf-8")))
