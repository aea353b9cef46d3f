"""Every method with the options that matter, and one way to generate with it."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from torch import Tensor

from baselines.flash_block import FlashBlock
from baselines.oracle import Oracle
from baselines.quest import Quest
from baselines.random import Random
from baselines.snapkv import SnapKV
from baselines.sparse_d import SparseD
from baselines.streaming_llm import StreamingLLM
from baselines.tidal_decode import TidalDecode
from mage.budget import Budget
from mage.generation.decoding import Static
from mage.generation.engine import Engine
from mage.generation.session import Generation
from mage.mage import Mage
from mage.mage_v1 import MageV1
from mage.method import Method
from mage.models.checkpoint import LanguageModel
from mage.view import View
from tests.conftest import prompt

METHODS: dict[str, Method] = {
    "mage": Mage(dense_layers=0),
    "mage-second-layer-on": Mage(dense_layers=1),
    "mage-max-prefix": Mage(dense_layers=0, reduction="max", denominator="prefix"),
    "mage-mean-query": Mage(dense_layers=0, reduction="mean_query"),
    "mage-step-2": Mage(dense_layers=0, select_step=2),
    "mage-refresh": Mage(dense_layers=0, refresh_every=2),
    "mage-pages": Mage(dense_layers=0, page_size=4),
    "mage-sparse-commit": Mage(dense_layers=0, commit="sparse"),
    "mage_v1": MageV1(dense_layers=0),
    "mage_v1-sparse-commit": MageV1(dense_layers=0, commit="sparse", min_share=1.0, denominator="prefix"),
    "tidal_decode": TidalDecode(dense_layers=0),
    "tidal_decode-block": TidalDecode(dense_layers=0, when="block"),
    "tidal_decode-sparse-commit": TidalDecode(dense_layers=0, commit="sparse"),
    "sparse_d": SparseD(dense_steps=1, page_size=4),
    "sparse_d-skip": SparseD(skip=0.2, page_size=4),  # blocks of 8: the second step chooses
    "quest": Quest(dense_layers=0, page_size=4),
    "quest-odd-pages": Quest(dense_layers=0, page_size=3, reduction="max", recent_pages=1),
    "quest-query-head": Quest(dense_layers=0, page_size=4, share="query_head"),
    "snapkv": SnapKV(window=8),
    "snapkv-query-aware": SnapKV(window=8, query_aware=True),
    "snapkv-query-head": SnapKV(window=8, share="query_head"),
    "streaming_llm": StreamingLLM(),
    "oracle": Oracle(),
    "oracle-sparse-commit": Oracle(commit="sparse"),
    "random": Random(),
    "flash_block": FlashBlock(),
    "flash_block-refresh": FlashBlock(refresh_every=2),
    "flash_block-sparse-commit": FlashBlock(commit="sparse"),
}
SELECTING = {name: method for name, method in METHODS.items() if method.uses_budget}
matrix = pytest.mark.parametrize("method", METHODS.values(), ids=METHODS.keys())
selecting = pytest.mark.parametrize("method", SELECTING.values(), ids=SELECTING.keys())
LENGTHS = [75, 64, 3, 50]  # a prompt tail, none, no prefix at all, shorter


def generate(
    model: LanguageModel,
    method: Method,
    budget: int | float,
    lengths: list[int],
    observer: Callable[[View, Tensor | None], None] | None = None,
    shadow: bool = False,
) -> list[Generation]:
    engine = Engine(model, method, Static(tokens_per_step=2), observer=observer, shadow=shadow)
    prefix = engine.prefill([prompt(n, seed=n) for n in lengths], [20] * len(lengths))
    return engine.generate(prefix, Budget(budget), example_ids=[f"example-{n}" for n in lengths], seed=5)
