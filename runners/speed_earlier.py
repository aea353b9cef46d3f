"""Results of earlier runs of the speed suite: they are kept where this run would make them alike."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch

from runners.environment import facts, now

PACKAGES = ("torch", "triton")  # the versions that decide a time


class Earlier:
    """Compares environments of held results with that of this process: the device, its threads, the versions of
    `PACKAGES` and the commit of the code, as far as a held result tells of them."""

    def __init__(self, device: torch.device) -> None:
        self._here = _compared(facts(device, now()))
        self._told: set[str] = set()

    def is_alike(self, environment: Mapping[str, Any]) -> bool:
        """Whether a result of `environment`, see `runners.environment.facts`, is one of here; if not, one line says
        why, once. Raises KeyError, TypeError or AttributeError for what is no environment."""
        held = _compared(environment)
        differing = [
            f"{name} {value}, now {self._here[name]}"
            for name, value in held.items()
            if value is not None and value != self._here[name]
        ]
        told = f"timed again, for what is held was made elsewhere: {'; '.join(differing)}"
        if differing and told not in self._told:
            self._told.add(told)
            print(told, flush=True)
        return not differing


def _compared(environment: Mapping[str, Any]) -> dict[str, Any]:
    packages = environment.get("packages", {})
    return {
        "device": environment["device"],
        "threads": environment.get("threads"),
        **{name: packages.get(name) for name in PACKAGES},
        "commit": environment.get("git_commit"),
    }
