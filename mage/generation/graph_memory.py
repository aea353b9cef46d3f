"""Where CUDA graphs keep what they work on: memory that outlives them, for those that come after."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Hashable
from contextlib import suppress
from functools import lru_cache
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch import nn


class GraphMemory:
    """What graphs of one kind of work have, generation after generation: a new one takes the room of one that is gone.

    Memory that belonged to dead graphs alone could not be taken by a capture, and cannot be freed during one. Graphs of
    different kinds share none: what one has written stays until it is repeated.
    """

    def __init__(self) -> None:
        self._keeper: torch.cuda.CUDAGraph | None = None

    @property
    def pool(self) -> Any:
        """The allocator's name for it, on the current GPU. A graph of next to nothing keeps it alive."""
        if self._keeper is None:
            self._keeper = _smallest()
        return self._keeper.pool()

    def close(self) -> None:
        """Let go of what a capture that failed held: some versions of torch leave that undone. Allocations go elsewhere
        again, and the random generator, which a capture that ends well lets go of, draws again."""
        pool = self.pool
        with suppress(AttributeError, RuntimeError):  # RuntimeError: it was done
            torch._C._cuda_endAllocateToPool(torch.cuda.current_device(), pool)
        with suppress(RuntimeError):
            _smallest(pool)


GraphMemories = defaultdict[Hashable, GraphMemory]
"""By kind of work."""

_memories: WeakKeyDictionary[nn.Module, GraphMemories] = WeakKeyDictionary()


def graph_memories(body: nn.Module) -> GraphMemories:
    """Return the memories for all engines of a body, one of which generates at a time. They live as long as it does."""
    return _memories.setdefault(body, defaultdict(GraphMemory))


def _smallest(pool: Any = None) -> torch.cuda.CUDAGraph:
    """Return a graph of next to nothing, in a pool of its own or in `pool`."""
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.stream(capture_stream(torch.cuda.current_device())):
        graph.capture_begin(pool=pool, capture_error_mode="thread_local")
        try:
            torch.zeros(1, device="cuda")
        finally:
            graph.capture_end()
    return graph


@lru_cache
def capture_stream(device: int) -> torch.cuda.Stream:
    """Return the stream that captures: one for all, as libraries keep workspaces for each stream they see."""
    return torch.cuda.Stream(device)
