"""Names for cells that carry the same labels and differ in an option, as in an ablation of one method."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from typing import Any

import pandas as pd

from runners.identity import IGNORED, NEUTRAL
from runners.record import CellLabels

SECTIONS = ("model", "method", "task", "decoding")
LABELS = list(CellLabels.model_fields)
ENGINE: dict[str, Any] = {"capture": True, "fuse_commit": False}
"""Options of the engine, as they usually are. They change no answer, only what it takes."""
TOLD = ("context", "batch", "prefill_chunk")  # of runner=latency; how a prefix was made is no way of reading it


def name_variants(cells: pd.DataFrame) -> pd.DataFrame:
    """Adds the options that differ to the labels: `mage` with two values of `commit` becomes `mage (commit=sparse)`.

    Looks at the config section of each label, for instance at `config.method` of all cells whose method is `mage`; of
    cells of runner=latency at how they were run, too: `mage (overlap=true)`. How the engine ran (ENGINE) is named
    wherever cells of a runner differ in it, of whatever method: in latency all of them, whose seconds are not to be
    compared; else those alone that are not as usual, so that `dense` stays what accuracy is compared with: the answers
    are the same. The names tell the cells of one report apart. The regression gate compares options, not names.
    """
    named = cells.copy()
    configs: dict[Any, dict[str, Any]] = {number: r.config for number, r in zip(cells.index, cells.record, strict=True)}
    for section in SECTIONS:
        for name, group in cells.groupby(section, sort=True):
            options = {number: _options(configs[number], section) for number in group.index}
            for number, text in _differences(options).items():
                if text:
                    named.at[number, section] = f"{name} ({text})"
    usual = flat(ENGINE)
    for runner, cells_of in cells.groupby("runner", sort=True):
        timed = runner == "latency"
        engines = {number: flat({k: configs[number].get(k, v) for k, v in ENGINE.items()}) for number in cells_of.index}
        shared = varying(engines)
        for _, group in cells_of.groupby("method", sort=True):
            options = {number: _ways_of_running(configs[number]) if timed else {} for number in group.index}
            keys = varying(options)
            for number, own in options.items():
                told = {key: engines[number][key] for key in shared if timed or engines[number][key] != usual[key]}
                told |= {key: own[key] for key in keys if key in own}
                _add(named, number, ", ".join(f"{key}={told[key]}" for key in sorted(told)))
    return named


def _add(named: pd.DataFrame, number: Any, text: str) -> None:
    """Add options to the name of a cell's method."""
    if text:
        method = str(named.at[number, "method"])
        named.at[number, "method"] = f"{method[:-1]}, {text})" if method.endswith(")") else f"{method} ({text})"


def _ways_of_running(config: dict[str, Any]) -> dict[str, str]:
    """Options of a runner that its task's label does not tell. Seeds are told apart, too: no seconds are pooled."""
    options = _options(config, "runner") | flat({"seed": config.get("seed", 0)})
    return {key: value for key, value in options.items() if key not in TOLD and f"runner.{key}" not in IGNORED}


def _options(config: dict[str, Any], section: str) -> dict[str, str]:
    part = config.get(section)
    options = flat(part) if isinstance(part, dict) else {}
    neutral = flat(NEUTRAL).items()
    return {k: v for k, v in options.items() if k not in LABELS and (f"{section}.{k}", v) not in neutral}


def flat(config: dict[str, Any], prefix: str = "") -> dict[str, str]:
    """A config as text by dotted field: `method.page_size` is "16"."""
    fields: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            fields |= flat(value, f"{prefix}{key}.")
        else:
            fields[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value)
    return fields


def varying(options: Mapping[Any, Mapping[str, str]]) -> list[str]:
    """The fields, sorted, that do not have one value in all of `options`."""
    values: dict[str, set[str | None]] = defaultdict(set)
    for key in {key for option in options.values() for key in option}:
        values[key] = {option.get(key) for option in options.values()}
    return sorted(key for key, found in values.items() if len(found) > 1)


def _differences(options: dict[Any, dict[str, str]]) -> dict[Any, str]:
    keys = varying(options)
    return {n: ", ".join(f"{key}={option[key]}" for key in keys if key in option) for n, option in options.items()}
