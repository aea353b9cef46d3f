"""Names for cells that carry the same labels and differ in an option, as in an ablation of one method."""

from __future__ import annotations

import json
from collections import defaultdict
from typing import Any

import pandas as pd

from mage.errors import UserError
from runners.record import CellLabels

SECTIONS = ("model", "method", "task", "decoding")
LABELS = list(CellLabels.model_fields)


def name_variants(cells: pd.DataFrame) -> pd.DataFrame:
    """Adds the options that differ to the labels: `mage` with two values of `commit` becomes `mage (commit=sparse)`.

    Looks at the config section of each label, for instance at `config.method` of all cells whose method is `mage`.
    Raises UserError when cells still share all labels, with the fields in which they differ.
    """
    named = cells.copy()
    configs: dict[Any, dict[str, Any]] = {number: r.config for number, r in zip(cells.index, cells.record, strict=True)}
    for section in SECTIONS:
        for name, group in cells.groupby(section, sort=True):
            options = {number: _options(configs[number], section) for number in group.index}
            for number, text in _differences(options).items():
                if text:
                    named.at[number, section] = f"{name} ({text})"
    for _, group in named.groupby([*LABELS, "budget_label"], dropna=False):
        if len(group) > 1:
            first, second = group.index[:2]
            fields = ", ".join(_varying({n: _flat(configs[n]) for n in (first, second)})) or "none of the config's"
            folders = " and ".join(named.folder[[first, second]])
            raise UserError(f"{folders} have the same labels and differ in these fields: {fields}. Analyse them apart")
    return named


def _options(config: dict[str, Any], section: str) -> dict[str, str]:
    part = config.get(section)
    flat = _flat(part) if isinstance(part, dict) else {}
    return {key: value for key, value in flat.items() if key not in LABELS}


def _flat(config: dict[str, Any], prefix: str = "") -> dict[str, str]:
    flat: dict[str, str] = {}
    for key, value in config.items():
        if isinstance(value, dict):
            flat |= _flat(value, f"{prefix}{key}.")
        else:
            flat[f"{prefix}{key}"] = value if isinstance(value, str) else json.dumps(value)
    return flat


def _varying(options: dict[Any, dict[str, str]]) -> list[str]:
    values: dict[str, set[str | None]] = defaultdict(set)
    for key in {key for option in options.values() for key in option}:
        values[key] = {option.get(key) for option in options.values()}
    return sorted(key for key, found in values.items() if len(found) > 1)


def _differences(options: dict[Any, dict[str, str]]) -> dict[Any, str]:
    keys = _varying(options)
    return {n: ", ".join(f"{key}={option[key]}" for key in keys if key in option) for n, option in options.items()}
