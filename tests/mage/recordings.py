"""Recordings of work that show on a CPU what a graph would do, operations that a graph could hold, and what to try them
on."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import pytest
import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

from baselines.dense import Dense
from baselines.flash_block import FlashBlock
from baselines.quest import Quest
from baselines.snapkv import SnapKV
from baselines.sparse_d import SparseD
from baselines.streaming_llm import StreamingLLM
from baselines.tidal_decode import TidalDecode
from mage.attention import sets
from mage.attention.operations import Attended, Lengths
from mage.attention.sets import Aftermath
from mage.attention.torch_operations import TorchOperations
from mage.budget import Budget
from mage.generation.captured import Call
from mage.generation.decoding import Static, Threshold
from mage.generation.engine import Engine
from mage.generation.session import Generation
from mage.mage import Mage
from mage.method import Method, Selection, check_sets
from mage.view import View
from tests.conftest import prompt

METHODS: dict[str, Method] = {
    "dense": Dense(),
    "mage": Mage(dense_layers=1),
    "mage-refresh": Mage(dense_layers=1, refresh_every=3, commit="dense"),
    "mage-sparse-commit": Mage(dense_layers=0, commit="sparse"),
    "mage-pages": Mage(dense_layers=1, page_size=4),
    "sparse_d": SparseD(dense_layers=1, page_size=4),
    "quest": Quest(dense_layers=1, page_size=4),
    "quest-query-head": Quest(dense_layers=1, page_size=4, reduction="max", share="query_head", recent_pages=1),
    "quest-odd-pages": Quest(dense_layers=1, page_size=3),  # which a prefix of whole blocks ends within, or not
    "quest-sparse-commit": Quest(dense_layers=0, page_size=2, commit="sparse"),
    "tidal_decode": TidalDecode(dense_layers=0),
    "tidal_decode-block": TidalDecode(dense_layers=0, when="block"),
    "snapkv": SnapKV(window=8),
    "snapkv-query-aware": SnapKV(window=8, query_aware=True, share="query_head"),
    "streaming_llm": StreamingLLM(),
    "flash_block": FlashBlock(dense_layers=1, refresh_every=3),
    "flash_block-sparse-commit": FlashBlock(commit="sparse"),
}
STEADY = [name for name in METHODS if name != "quest-odd-pages"]  # in every block
CHOOSING = ("mage", "mage-refresh", "mage-pages", "sparse_d")  # between two forwards
methods = pytest.mark.parametrize("name", METHODS)
steady_methods = pytest.mark.parametrize("name", STEADY)
DECODINGS = {"static": Static(tokens_per_step=2), "threshold": Threshold(threshold=0.3)}


def written(engine: Engine, lengths: list[int], new: int = 30, budget: int | float = 9) -> list[Generation]:
    prefix = engine.prefill([prompt(n, seed=n) for n in lengths], [new] * len(lengths))
    return engine.generate(prefix, Budget(budget))


def told(generations: list[Generation]) -> list[object]:
    """Tokens and traces, all but the times."""
    blocks = [[(b.forwards, b.tokens_decided, b.reads, b.dense_reads) for b in g.trace.blocks] for g in generations]
    return [(g.tokens, g.stop_token, found) for g, found in zip(generations, blocks)]


@dataclass(frozen=True)
class OnDevice:
    """All of the capacity, with a mask by what the device says."""

    widest: int
    mask: Tensor


class StaticTorch(TorchOperations):
    """Reads lengths on the device alone, as kernels do."""

    static = True

    def exact(self, q: Tensor, keys: Tensor, values: Tensor, lengths: Lengths, *rest: Any) -> Attended:
        return super().exact(q, keys, values, self._on_device(keys, lengths), *rest)  # type: ignore[arg-type]

    def prefix(self, q: Tensor, keys: Tensor, values: Tensor, lengths: Lengths, *rest: Any) -> tuple[Tensor, Tensor]:
        return super().prefix(q, keys, values, self._on_device(keys, lengths), *rest)  # type: ignore[arg-type]

    def mass(
        self, q: Tensor, keys: Tensor, lengths: Lengths, lse: Tensor, scale: float, reduction: Literal["mean", "max"]
    ) -> Tensor:
        return super().mass(q, keys, self._on_device(keys, lengths), lse, scale, reduction)  # type: ignore[arg-type]

    def _on_device(self, keys: Tensor, lengths: Lengths) -> OnDevice:
        capacity = keys.shape[2]
        return OnDevice(capacity, (torch.arange(capacity) < lengths.device[:, None])[:, None, None])


class Counted(Call):
    """Counts the pieces of work that were not done as they are."""

    runs = 0

    def run(self) -> Any:
        Counted.runs += 1
        return super().run()


class Emulated(Counted):
    """As a graph: work that is repeated writes to the tensors of the first time, and leaves nothing on the host. The
    sets it chooses are checked against what the host takes them for."""

    first: Aftermath | None = None
    kinds: ClassVar[set[type]] = set()

    def run(self) -> Any:
        waited = dict(self._subject._sets._pending)  # type: ignore[attr-defined]
        result = self._repeat()
        self._check(waited)
        return result

    def _repeat(self) -> Any:
        kept = self._subject._sets  # type: ignore[attr-defined]
        names = ("_planned", "_pending", "_sets", "_compact")
        before = {name: dict(getattr(kept, name)) for name in names} | {"reads": list(kept.reads)}
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(sets, "check_sets", lambda *given: None)  # made once on a GPU, in a forward that runs as is
            result = super().run()
        left = self._subject.aftermath
        if self.first is None:
            self.first, self.result = left, result
            return result
        for layer, view in left.planned.items():
            for name in ("queries", "block_keys", "lse_prefix", "lse_block"):
                if (seen := getattr(view, name)) is not None:
                    getattr(self.first.planned[layer], name).copy_(seen)
        for layer, chosen in left.sets.items():
            for first, seen in zip(tensors(self.first.sets[layer]), tensors(chosen), strict=True):
                first.copy_(seen)
        for name, value in before.items():
            setattr(kept, name, value)
        self._subject.replayed(self.first)
        Emulated.kinds.add(type(self._subject))
        return None if result is None else self.result.copy_(result)

    def _check(self, waited: dict[int, View]) -> None:
        """Check the sets that were chosen, of the views that `waited` or of those planned, as the host has them now."""
        kept = self._subject._sets  # type: ignore[attr-defined]
        for layer, view in (waited | kept._planned).items():
            if layer in kept._sets and layer not in kept._pending:
                check_sets(kept._method, [layer], [self._subject.now.shown(view)], [kept._sets[layer]])


def tensors(chosen: Selection) -> list[Tensor]:
    return [chosen.indices] if chosen.counts is None else [chosen.indices, chosen.counts]


class Alone(TorchDispatchMode):
    """Fails where a value is read from the device, or a list brought to it: no graph can hold that."""

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        name = function.overloadpacket.__name__
        assert name not in ("_local_scalar_dense", "nonzero", "is_nonzero", "equal", "lift_fresh"), name
        return function(*args, **(kwargs or {}))


class OnItsOwn(Emulated):
    """Runs what is recorded with the host out of reach."""

    def _repeat(self) -> Any:
        with Alone(), pytest.MonkeyPatch.context() as patch:
            for name in ("tolist", "item"):
                patch.setattr(torch.Tensor, name, None)
            return super()._repeat()
