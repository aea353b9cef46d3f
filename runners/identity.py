"""The identity of a cell: a hash of everything that can change its result, and of nothing else."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

# Fields of the resolved config that cannot change a result. `dense_layers` reaches a method through the method's own
# field; the fields that say where weights, tokenizer and data come from are replaced by the hash of what lies there,
# those that say what the body is by the hash of what was understood (`runners.checkpoint`).
IGNORED = (
    "name",
    "output_dir",
    "tracker",
    "dense_reference",
    "dense_layers",
    "model.weights",
    "model.revision",
    "model.tokenizer",
    "model.adapter",
    "model.body",
    "model.trained_positions",
    "model.threads",
    "task.data",
    "task.haystack",
    "runner.timeout_s",
    "runner.on_error",
)
# Options that came later, at the value that leaves a cell what it was before there was a choice.
NEUTRAL = {
    "task.questions": 1,
    "runner.likelihood": False,
    "attention": "torch",
    "capture": True,
    "fuse_commit": False,
}


def identity_of(
    config: Mapping[str, Any], *, model_hash: str, task_hash: str, uses_budget: bool, attention: str
) -> str:
    """Return 16 hex digits for a resolved config. A budget that the method does not use is no part of it.

    attention: the implementation that runs, whatever the config asks for: what was computed before there was a choice
        was computed by torch.
    """
    ignored = IGNORED if uses_budget else (*IGNORED, "budget")
    kept = _without({**config, "attention": attention}, ignored)
    # The index of a device is no part of the result, its kind is.
    kept["model"]["device"] = str(kept["model"].get("device", "cpu")).split(":")[0]
    content = {"config": kept, "model": model_hash, "task": task_hash}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _without(config: Mapping[str, Any], ignored: tuple[str, ...], prefix: str = "") -> dict[str, Any]:
    return {
        key: _without(value, ignored, f"{prefix}{key}.") if isinstance(value, Mapping) else value
        for key, value in config.items()
        if (name := f"{prefix}{key}") not in ignored and (name not in NEUTRAL or value != NEUTRAL[name])
    }
