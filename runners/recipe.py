"""What a training folder was made with: written down once, and another recipe is refused."""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

from mage.errors import UserError

RECIPE = "recipe.json"
WRITING = ("block_size", "mask_id", "stop_ids", "alignment", "prefix_attention", "anchored", "dtype")
"""Fields of the model's section that a model's files do not hold and that change what is learnt."""


def check_counts(**lowest: tuple[int, int]) -> None:
    """Raise `UserError` unless each field of the runner, a pair of its value and the least allowed, holds as much."""
    for name, (value, low) in lowest.items():
        if value < low:
            raise UserError(f"runner.{name}={value} is out of range. Allowed: an integer >= {low}.")


def recipe_of(config: Mapping[str, Any], sections: Collection[str], ignored: Collection[str]) -> dict[str, Any]:
    """Return the part of a resolved config that decides what a training run leaves.

    sections: of the config besides the runner's. ignored: fields of the runner that cannot change the weights. How the
    model writes a block is part of it; its files are the caller's to add.
    """
    told = {key: value for key, value in config["runner"].items() if key not in ignored}
    model = {name: config["model"][name] for name in WRITING}
    return dict(json.loads(json.dumps({**told, **model, **{name: config[name] for name in sections}})))


def claim(folder: Path, recipe: Mapping[str, Any]) -> None:
    """Write the recipe down. Raises `UserError` where the folder holds a run with another one."""
    path = folder / RECIPE
    if not path.is_file():
        path.write_text(json.dumps(recipe, indent=2) + "\n", encoding="utf-8")
        return
    before = json.loads(path.read_text(encoding="utf-8"))
    changed = [key for key in sorted({*before, *recipe}) if before.get(key) != recipe.get(key)]
    if changed:
        raise UserError(
            f"{path}: this folder holds a run with another {changed[0]}. Give the new run another name, "
            "or delete the folder."
        )
