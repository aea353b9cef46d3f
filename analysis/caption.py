"""Sentences that captions share."""

from __future__ import annotations

import pandas as pd

from analysis.marks import warnings
from analysis.ordering import base_method
from analysis.statistics import FEWEST

SHARE = 0.25
"""Of the budget: more question tokens outside it are told."""
NAMED = 6
"""Tasks that a sentence names."""


def example_counts(points: pd.DataFrame) -> list[int]:
    """The different numbers of examples of the points that have any, rising."""
    return sorted({int(n) for n in points.n.dropna()}) if "n" in points else []


def counted(points: pd.DataFrame) -> str:
    """How many examples a point has: `1 example`, `20 examples`, `20 to 40 examples`, `no examples`."""
    sizes = example_counts(points)
    count = " to ".join(map(str, sizes if len(sizes) < 2 else (sizes[0], sizes[-1]))) or "no"
    return f"{count} {'example' if sizes == [1] else 'examples'}"


def span(values: pd.Series) -> str:
    """The smallest and the largest value: `8 to 16`, or `8` where they are the same."""
    low, high = (f"{value:.4g}" for value in (values.min(), values.max()))
    return low if low == high else f"{low} to {high}"


def decoding_of(points: pd.DataFrame) -> str:
    """The decoding of points that share it, with its options."""
    name, options = points.decoding.iloc[0], points.decoding_options.iloc[0]
    return f"{name} ({options})" if options else str(name)


def where(question: str) -> str:
    """Where the question of a task stands, in words."""
    places = {"block": "in the first generated block", "text": "where the prompt has it"}
    return places.get(question, f"in the {question}")


def truncation(points: pd.DataFrame) -> str:
    """Says that prompts were cut to what the model can hold: their answer may have stood in what was cut."""
    cut = points[points.truncated_examples > 0] if "truncated_examples" in points else points.iloc[:0]
    if cut.empty:
        return ""
    most = max((row for _, row in cut.iterrows()), key=lambda row: float(row.truncated_examples / row.n))
    return (
        "Truncated: prompts longer than the model's positions, or than the task allows, lost the middle of their "
        f"context in {len(cut)} of {len(points)} {'cell' if len(points) == 1 else 'cells'}, "
        f"in up to {most.truncated_examples:.0f} of {most.n:.0f} {'example' if most.n == 1 else 'examples'}."
    )


def outside_budget(points: pd.DataFrame) -> str:
    """Says that a query-agnostic SnapKV keeps long questions beside its budget, so that it holds more than others."""
    if "question_tokens" not in points:
        return ""
    own = points[points.query_aware.eq(False) & (points.question == "text") & points.question_tokens.notna()]
    tokens: dict[str, float] = {}
    for task, of_task in own.groupby("task"):
        if of_task.question_tokens.max() > SHARE * of_task.budget_tokens.min():
            tokens[str(task).partition(" (")[0]] = float(of_task.question_tokens.max())
    if not tokens:
        return ""
    shown = sorted(tokens, key=lambda task: (-tokens[task], task))
    named = ", ".join(f"{tokens[task]:g} on {task}" for task in shown[:NAMED])
    others = f" and {len(shown) - NAMED} other tasks" if len(shown) > NAMED else ""
    smallest = sorted({round(float(of_task.budget_tokens.min())) for _, of_task in own.groupby("task")})
    budget = " to ".join(map(str, smallest if len(smallest) < 2 else (smallest[0], smallest[-1])))
    return (
        f"{', '.join(dict.fromkeys(base_method(m) for m in own.method))} keeps all prefilled question tokens outside "
        f"its budget: more than a quarter of the smallest budget ({budget} tokens) in the median, {named}{others}."
    )


def pooled(points: pd.DataFrame) -> str:
    """Says that seeds shared examples, where they did."""
    if "answers" not in points or not (points.answers > points.n).any():
        return ""
    most = max((row for _, row in points.dropna(subset=["n"]).iterrows()), key=lambda row: float(row.answers / row.n))
    return (
        "Seeds ask the same examples: n counts distinct ones, each with the mean of its answers (up to "
        f"{most.answers} answers to {most.n} examples)."
    )


def clustered(points: pd.DataFrame) -> str:
    """Says that examples share contexts, where they do."""
    counts = context_counts(points)
    if not counts:
        return ""
    contexts = " to ".join(map(str, counts if len(counts) < 2 else (counts[0], counts[-1])))
    contexts += " context" if counts == [1] else " contexts"
    return (
        f"Examples share contexts, {counted(points)} in {contexts} a cell: "
        "intervals resample contexts, McNemar's test turns the signs of whole contexts, and the seconds in which a "
        "model with a causal prefix prefills a context are split evenly over its examples."
    )


def context_counts(points: pd.DataFrame) -> list[int]:
    """The different numbers of contexts of the points whose examples share them, rising."""
    return sorted({int(n) for n in points.contexts.dropna()}) if "contexts" in points else []


def few(points: pd.DataFrame) -> str:
    """Says why there is no interval, where examples or contexts are too few."""
    kinds = {"examples": example_counts(points), "contexts": context_counts(points)}
    low = " or ".join(kind for kind, counts in kinds.items() if any(count < FEWEST for count in counts))
    return f"Of fewer than {FEWEST} {low} there is no interval." if low else ""


def closing(points: pd.DataFrame) -> str:
    """What must not be missed about the cells of a table, each sentence after a space.

    Truncated prompts, questions outside the budget, shared and few examples or contexts, sample data, untrained
    positions.
    """
    shared = pooled(points)
    test = "McNemar's test counts each example once, by the sign of its mean difference." if shared else ""
    found = [
        truncation(points),
        outside_budget(points),
        shared,
        test,
        clustered(points),
        few(points),
        *warnings(points),
    ]
    return "".join(f" {sentence}" for sentence in found if sentence)
