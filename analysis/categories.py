"""How published benchmarks group and order their tasks."""

from __future__ import annotations

from collections.abc import Iterable

# LongBench, table 1 (Bai et al., arXiv 2308.14508). Papers on English models leave out the Chinese tasks.
LONGBENCH = {
    "single-doc QA": ("narrativeqa", "qasper", "multifieldqa_en", "multifieldqa_zh"),
    "multi-doc QA": ("hotpotqa", "2wikimqa", "musique", "dureader"),
    "summarisation": ("gov_report", "qmsum", "multi_news", "vcsum"),
    "few-shot": ("trec", "triviaqa", "samsum", "lsht"),
    "synthetic": ("passage_count", "passage_retrieval_en", "passage_retrieval_zh"),
    "code": ("lcc", "repobench-p"),
}
CHINESE = frozenset({"multifieldqa_zh", "dureader", "vcsum", "lsht", "passage_retrieval_zh"})
# LongBench-E, section 3.3 there: 13 English tasks.
LONGBENCH_E = {
    "single-doc QA": ("qasper", "multifieldqa_en"),
    "multi-doc QA": ("hotpotqa", "2wikimqa"),
    "summarisation": ("gov_report", "multi_news"),
    "few-shot": ("trec", "triviaqa", "samsum"),
    "synthetic": ("passage_count", "passage_retrieval_en"),
    "code": ("lcc", "repobench-p"),
}
# RULER, section 3 (Hsieh et al., arXiv 2404.06654).
RULER = {
    "retrieval": (
        *(f"niah_single_{n}" for n in (1, 2, 3)),
        *(f"niah_multikey_{n}" for n in (1, 2, 3)),
        *("niah_multivalue", "niah_multiquery"),
    ),
    "multi-hop tracing": ("vt",),
    "aggregation": ("cwe", "fwe"),
    "question answering": ("qa_1", "qa_2"),
}
MACRO = frozenset({"longbench", "longbench_e"})
"""Benchmarks whose overall score is the mean of the means of their categories (LongBench's Overall), not of tasks."""
SUITES = {"longbench": LONGBENCH, "longbench_e": LONGBENCH_E, "longbench_v2": {}, "ruler": RULER}


def categories_of(suite: str, members: Iterable[str]) -> dict[str, list[str]]:
    """The categories of `suite` of which all tasks are among `members`, or all English ones and no other."""
    here = set(members)
    found: dict[str, list[str]] = {}
    for category, names in SUITES.get(suite, {}).items():
        own = [name for name in names if name in here]
        if set(own) in ({*names}, {*names} - CHINESE):
            found[category] = own
    return found


def official_order(suite: str, members: Iterable[str]) -> list[str]:
    """`members`, each once, in the order of the benchmark; then those that are none of it, by name."""
    order = [name for names in SUITES.get(suite, {}).values() for name in names]
    return sorted(set(members), key=lambda name: (order.index(name) if name in order else len(order), name))
