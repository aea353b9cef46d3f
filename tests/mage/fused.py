"""Generations with and without fused commits, and the methods that have some."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import torch

from baselines.oracle import Oracle
from baselines.sparse_d import SparseD
from baselines.tidal_decode import TidalDecode
from mage.budget import Budget
from mage.generation.decoding import Decoding
from mage.generation.engine import Engine
from mage.generation.prefill import Prefix
from mage.generation.session import Generation
from mage.mage import Mage
from mage.mage_v1 import MageV1
from mage.method import Method
from mage.models.checkpoint import LanguageModel
from tests.conftest import prompt
from tests.mage import naive
from tests.mage.recordings import METHODS

BLOCK = 8
FUSED: dict[str, Method] = {
    **{name: METHODS[name] for name in ("dense", "mage", "mage-refresh", "flash_block")},
    "mage-step-2": Mage(dense_layers=1, select_step=2),
    "mage-prefix": Mage(dense_layers=1, denominator="prefix", reduction="max"),
    "mage-pages": Mage(dense_layers=0, page_size=4),
    "mage-query": Mage(dense_layers=1, reduction="mean_query"),
    "mage_v1": MageV1(dense_layers=1),
    "sparse_d": SparseD(dense_layers=1, page_size=4),
}
NOT_FUSED: dict[str, Method] = {
    **{name: METHODS[name] for name in ("mage-sparse-commit", "quest", "snapkv", "streaming_llm")},
    "flash_block-sparse-commit": METHODS["flash_block-sparse-commit"],
    "tidal_decode": METHODS["tidal_decode"],  # layers that follow attend to sets from the first step on
    "tidal_decode-sparse-commit": TidalDecode(dense_layers=0, commit="sparse"),
    "oracle": Oracle(),
}
GROUPS = {"group-2": {}, "group-4": {"num_key_value_heads": 1}, "group-1": {"num_key_value_heads": 4}}


def body_of(model: LanguageModel, family: str = "llama", seed: int = 0, **changes: object) -> LanguageModel:
    return replace(model, body=naive.tiny_body(family, seed, **changes))


def endless(model: LanguageModel) -> LanguageModel:
    return replace(model, spec=replace(model.spec, stop_ids=()))


def both(
    model: LanguageModel,
    method: Method,
    decoding: Decoding,
    lengths: list[int],
    limits: list[int],
    budget: int = 9,
    **more: Any,
) -> list[tuple[Prefix, list[Generation]]]:
    """What is written without, and with, fused commits."""
    found = []
    for fused in (False, True):
        engine = Engine(model, method, decoding, fuse_commit=fused, **more)
        prefix = engine.prefill([prompt(n, seed=n) for n in lengths], limits)
        found.append((prefix, engine.generate(prefix, Budget(budget))))
    return found


def check_equal(
    plain: tuple[Prefix, list[Generation]], fused: tuple[Prefix, list[Generation]], *, always: bool
) -> None:
    """The same tokens and keys and values; `always`: a commit is fused wherever there is one, otherwise none is."""
    for row, (wanted, got) in enumerate(zip(plain[1], fused[1], strict=True)):
        assert got.tokens == wanted.tokens and got.stop_token == wanted.stop_token
        assert got.trace.tokens_decided == wanted.trace.tokens_decided
        committed = wanted.trace.forwards["commit"]
        assert committed == len(wanted.trace.blocks) - 1
        for number, (block, other) in enumerate(zip(got.trace.blocks, wanted.trace.blocks, strict=True)):
            joined = always and number > 0
            assert block.forwards["fused"] == joined and other.forwards["fused"] == 0
            assert block.forwards["commit"] == (0 if always else other.forwards["commit"])
            assert block.forwards["exact"] + joined == other.forwards["exact"]
            assert block.forwards["sparse"] == other.forwards["sparse"]
        length = plain[0].lengths[row] + BLOCK * committed
        for a, b in ((plain[0].cache.keys, fused[0].cache.keys), (plain[0].cache.values, fused[0].cache.values)):
            torch.testing.assert_close(b[:, row, :, :length], a[:, row, :, :length], atol=5e-5, rtol=1e-4)
