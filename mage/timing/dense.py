"""Dense attention of one step by every implementation at hand: what a sparse method has to beat is the best of them."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from functools import partial
from statistics import median
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from mage.attention.operations import Operations
from mage.attention.reference import group_rows
from mage.generation.cache import KVCache
from mage.generation.clock import Clock
from mage.generation.graph_memory import GraphMemory, capture_stream
from mage.generation.prefill import Prefix

RUNS = 5
WORKSPACE_BYTES = 2**27  # what FlashInfer asks for

Attention = Callable[[Tensor, int], object]
"""From the queries `[batch, heads, rows, d]` of a block and a layer to what nobody looks at."""


@dataclass(frozen=True)
class DenseAttention:
    """Seconds by implementation, and in a line why others have none."""

    seconds: dict[str, float]
    absent: dict[str, str]


@torch.inference_mode()
def dense_seconds(prefix: Prefix, num_heads: int, rows: int, ours: Sequence[Operations]) -> DenseAttention:
    """Return the seconds of the attention of one denoising step, all layers, by implementation: medians of warm runs.

    ours: operations of this library, under their own names, which are timed first. Others are torch's scaled dot
    product, and flash-attn and FlashInfer where they are installed; they are given the block's keys behind those of the
    prefix, where a cache has room for them. Each layer reads its own part of the cache, so that a last-level cache
    keeps none of it until the next run, unless it holds all. On a GPU the layers are run once as they are, then
    replayed as one graph, as in the engine: what the host takes to launch them does not count. Prompts must be equally
    long. What is not installed, cannot serve a shape or cannot be captured is absent.
    """
    cache = prefix.cache
    layers, batch, _, _, head_dim = cache.keys.shape
    device, dtype = cache.keys.device, cache.keys.dtype
    # Of its own: a capture that fails may leave torch's unusable.
    generator = torch.Generator(device).manual_seed(0)
    queries = torch.randn((batch, num_heads, rows, head_dim), generator=generator, device=device, dtype=dtype)
    clock = Clock(device)
    found, absent = {}, {}
    cache.rewind(prefix.lengths)

    def timed(work: Callable[[], None]) -> float:
        began = clock.mark()
        work()
        return clock.seconds(began, clock.mark())

    with torch.cuda.device(device) if device.type == "cuda" else nullcontext():
        for name, prepare in implementations(cache, num_heads, rows, ours).items():
            try:
                step = _step(prepare(), queries, layers)
                timed(step)
                found[name] = median(timed(step) for _ in range(RUNS))
            except Exception as problem:  # each library has errors of its own
                absent[name] = f"{type(problem).__name__}: {str(problem).strip().partition(chr(10))[0]}"
    return DenseAttention(found, absent)


def _step(attend: Attention, queries: Tensor, layers: int) -> Callable[[], None]:
    """Return the attention of all layers, run once before as it is, as it is to be timed."""

    def run() -> None:
        for layer in range(layers):
            attend(queries, layer)

    run()
    if not queries.is_cuda:
        return run
    torch.cuda.synchronize()
    memory, graph = GraphMemory(), torch.cuda.CUDAGraph()
    pool = memory.pool
    try:
        # Not torch.cuda.graph: a capture that fails would leave its stream the current one.
        with torch.cuda.stream(capture_stream(torch.cuda.current_device())):
            graph.capture_begin(pool=pool, capture_error_mode="thread_local")
            try:
                run()
            finally:
                graph.capture_end()
    except Exception:
        memory.close()
        raise
    return graph.replay


def implementations(
    cache: KVCache, num_heads: int, rows: int, ours: Sequence[Operations]
) -> dict[str, Callable[[], Attention]]:
    """Return what makes each implementation ready, by name, ours first: it raises where one is missing or cannot
    serve."""
    entries, kv_heads = cache.lengths[0], cache.keys.shape[2]
    end = entries + rows

    def own(operations: Operations) -> Attention:
        def attend(q: Tensor, layer: int) -> object:
            block = (cache.keys[layer, :, :, entries:end], cache.values[layer, :, :, entries:end])
            grouped = group_rows(q, kv_heads)
            return operations.exact(grouped, *cache.entries(layer), cache.valid, *block, q.shape[-1] ** -0.5, False)

        return attend

    def scaled_dot_product() -> Attention:
        return lambda q, layer: F.scaled_dot_product_attention(
            group_rows(q, kv_heads), cache.keys[layer, :, :, :end], cache.values[layer, :, :, :end]
        )

    def flash_attn() -> Attention:
        from flash_attn import flash_attn_func

        def attend(q: Tensor, layer: int) -> object:
            whole = (cache.keys[layer, :, :, :end], cache.values[layer, :, :, :end])
            return flash_attn_func(q.transpose(1, 2), *(x.transpose(1, 2) for x in whole), causal=False)

        return attend

    found: dict[str, Callable[[], Attention]] = {each.name: partial(own, each) for each in ours}
    found["torch SDPA"] = scaled_dot_product
    if cache.keys.is_cuda:
        found["flash-attn"] = flash_attn
        found["FlashInfer"] = lambda: _flash_infer(cache, num_heads, end, rows)
    return found


def _flash_infer(cache: KVCache, num_heads: int, end: int, rows: int) -> Attention:
    """Each row of the batch is one page as long as the cache, of which the first `end` entries count."""
    import flashinfer

    _, batch, kv_heads, capacity, head_dim = cache.keys.shape
    device = cache.keys.device

    def numbers(*values: int) -> Tensor:
        return torch.tensor(values, dtype=torch.int32, device=device)

    workspace = torch.empty(WORKSPACE_BYTES, dtype=torch.uint8, device=device)
    wrapper: Any = flashinfer.BatchPrefillWithPagedKVCacheWrapper(workspace, "HND")
    edges = range(batch + 1)
    wrapper.plan(
        numbers(*(rows * edge for edge in edges)),
        numbers(*edges),
        numbers(*range(batch)),
        numbers(*[end] * batch),
        num_heads,
        kv_heads,
        head_dim,
        capacity,
        causal=False,
        q_data_type=cache.keys.dtype,
    )
    return lambda q, layer: wrapper.run(
        q.transpose(1, 2).reshape(batch * rows, num_heads, head_dim), (cache.keys[layer], cache.values[layer])
    )
