"""A prefix to time blocks on: random tokens, prefilled for real."""

from __future__ import annotations

from dataclasses import dataclass, replace

import torch

from mage.generation.cache import KVCache
from mage.generation.engine import Engine
from mage.generation.prefill import Prefix
from mage.models.checkpoint import LanguageModel

WARM_UP_TOKENS = 2048


@dataclass(frozen=True, kw_only=True)
class Workload:
    """`context` prefix entries in each of `batch` rows, then `blocks` blocks. `warm_blocks`: blocks that go before
    these and do not count, see `warm_blocks_of`. `copies`: one row is prefilled, the others hold copies of its K, V: as
    fast to read, and cheaper to make. `fuse_commit`: for engines that are to. A block then holds the commit of the
    block before where that is fused, and its own where it is not: the first one, which has none of either before it,
    does not count on any side."""

    context: int
    batch: int = 1
    blocks: int = 1
    warm_blocks: int = 0
    seed: int = 0
    copies: bool = False
    fuse_commit: bool = False

    @property
    def skipped(self) -> int:
        """Blocks that go before those that count."""
        return self.warm_blocks + self.fuse_commit

    def new_tokens(self, block_size: int) -> int:
        """Return how many tokens to ask for: one more than all blocks hold, so that the last one is committed too."""
        return (self.skipped + self.blocks) * block_size + 1

    def positions(self, block_size: int) -> int:
        """Return the positions that prefix and blocks take, that of the token behind them included."""
        return self.context + (self.skipped + self.blocks + 1) * block_size

    def mean_prefix(self, block_size: int) -> float:
        """Return the entries of the prefix, as the mean over the blocks that count."""
        return self.context + (self.skipped + (self.blocks - 1) / 2) * block_size


def is_captured(engine: Engine) -> bool:
    """Whether the forwards of an engine are repeated as graphs: not under a policy that edits."""
    return engine.recording is not None and not engine.decoding.settles


def warm_blocks_of(captured: bool) -> int:
    """Return how many blocks of a generation only warm up: where forwards become graphs, each kind runs as it is in the
    first block, once more where that one made the buffers it writes to, and is recorded by the third."""
    return 3 if captured else 0


def without_stops(model: LanguageModel) -> LanguageModel:
    """Return `model` with its stop tokens switched off, so that every block does all of its work."""
    return replace(model, spec=replace(model.spec, stop_ids=()))


def prefilled(engine: Engine, work: Workload) -> Prefix:
    """Prefill the random tokens of a workload; `seconds` of the prefix are those of the rows that were computed.

    A short prefill goes before it, so that nothing is loaded or compiled on the clock. Raises what `Engine.prefill`
    does.
    """
    model, generator = engine.model, torch.Generator().manual_seed(work.seed)
    size, rows = model.spec.block_size, 1 if work.copies else work.batch
    prompts = torch.randint(model.body.config.vocab_size, (rows, work.context), generator=generator).tolist()
    short = min(work.context, -(-WARM_UP_TOKENS // size) * size)
    engine.prefill([prompt[:short] for prompt in prompts], [1] * rows)
    made = engine.prefill(prompts, [work.new_tokens(size)] * rows)
    return repeated(made, model, work.batch) if work.copies else made


@torch.inference_mode()
def repeated(prefix: Prefix, model: LanguageModel, batch: int) -> Prefix:
    """Return a prefix of `batch` rows that hold what the only row of `prefix` holds."""
    if batch == 1:
        return prefix
    old = prefix.cache
    cache = KVCache(model.body.config, batch, old.keys.shape[3], model.device, old.keys.dtype)
    cache.keys.copy_(old.keys.expand_as(cache.keys))
    cache.values.copy_(old.values.expand_as(cache.values))
    cache.rewind(prefix.lengths * batch)
    return replace(
        prefix,
        prompts=prefix.prompts * batch,
        lengths=prefix.lengths * batch,
        max_new_tokens=prefix.max_new_tokens * batch,
        cache=cache,
        windows=prefix.windows.expand(-1, batch, -1, -1, -1),
        last_logits=prefix.last_logits.repeat(batch, 1),
    )


def empty(engine: Engine, batch: int, skipped: int) -> Prefix:
    """Return the prefix of a block that has nothing before it but the `skipped` blocks that do not count: of one prompt
    token, which stands in the first block itself unless the model's prefix is causal. How many entries those make is
    told by `mage.timing.rounds.Conditions.empty_entries`."""
    spec = engine.model.spec
    return engine.prefill([[0]] * batch, [(skipped + 1) * spec.block_size + int(spec.causal)] * batch)
