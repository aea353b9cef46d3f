"""Work that is done again on the same tensors: recorded once, then repeated without its code."""

from __future__ import annotations

from collections.abc import Callable, Hashable
from functools import lru_cache
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from mage.attention.block import BlockAttention
from mage.attention.choice import Choice
from mage.attention.forward_pass import Pass, Signature
from mage.attention.sets import Aftermath

Result = TypeVar("Result")


class Subject(Protocol):
    """What keeps the host's side of a piece of work: a forward's attention, or the choice of sets before one."""

    now: Pass

    @property
    def signature(self) -> Signature | None: ...
    @property
    def aftermath(self) -> Aftermath: ...
    def replayed(self, aftermath: Aftermath) -> None: ...
    def silence(self) -> None: ...


class Recording(Protocol):
    """A recorded piece of work. Made where it is to be recorded, before it is done."""

    def __init__(self, function: Callable[[], Any], subject: Subject, earlier: Recording | None) -> None: ...
    def run(self) -> Any: ...


class Graph:
    """Work as a CUDA graph. It must have been done before as it is, so that kernels are compiled and buffers are there.

    `earlier`: a graph of the same kind that this one replaces, whose memory it shares. Graphs of different kinds share
    none: what one has written stays until it is repeated.
    """

    def __init__(self, function: Callable[[], Any], subject: Subject, earlier: Recording | None) -> None:
        self._subject, self._done = subject, False
        self._graph = torch.cuda.CUDAGraph()
        pool = earlier._graph.pool() if isinstance(earlier, Graph) else None
        here, aside = torch.cuda.current_stream(), _capture_stream(torch.cuda.current_device())
        aside.wait_stream(here)
        subject.silence()
        with torch.cuda.stream(aside):
            self._graph.capture_begin(pool=pool, capture_error_mode="thread_local")
            try:
                self._result = function()
            finally:
                self._graph.capture_end()
        here.wait_stream(aside)
        self._aftermath = subject.aftermath

    def run(self) -> Any:
        """Do the work and return its result, a tensor that the next run writes over."""
        self._graph.replay()
        if self._done:
            self._subject.replayed(self._aftermath)
        self._done = True  # while it was captured, its code ran
        return self._result


@lru_cache
def _capture_stream(device: int) -> torch.cuda.Stream:
    """Return the stream that captures: one for all, as libraries keep workspaces for each stream they see."""
    return torch.cuda.Stream(device)


class Call:
    """Work as what was called for it, with what the host knew then: a graph without a GPU, for tests."""

    def __init__(self, function: Callable[[], Any], subject: Subject, earlier: Recording | None) -> None:
        self._function, self._subject, self._then = function, subject, subject.now

    def run(self) -> Any:
        """Do the work and return its result."""
        now, self._subject.now = self._subject.now, self._then
        try:
            return self._function()
        finally:
            self._subject.now = now


class Recorder:
    """Does the work of one generation: the first of a signature as it is, later ones from a recording of it.

    One recording is kept of each kind of work. `recording`: how (None: everything is done as it is).
    """

    def __init__(self, recording: type[Recording] | None) -> None:
        self._recording = recording
        self._met: dict[Hashable, Signature] = {}
        self._recorded: dict[Hashable, tuple[Signature, Recording]] = {}

    def forward(self, attention: BlockAttention, function: Callable[[], Tensor]) -> Tensor:
        """Return the logits that `function` gives for the forward that attention has begun."""
        return self._run(attention, function)

    def choose(self, choice: Choice) -> None:
        """Carry out the choice of sets before a forward."""
        self._run(choice, choice)

    def _run(self, subject: Subject, function: Callable[[], Result]) -> Result:
        signature = None if self._recording is None else subject.signature
        if self._recording is None or signature is None:
            return function()
        kind = signature.kind
        if self._met.get(kind) != signature:
            self._met[kind] = signature
            return function()
        recorded, recording = self._recorded.get(kind, (None, None))
        if recording is None or recorded != signature:
            recording = self._recording(function, subject, recording)
            self._recorded[kind] = signature, recording
        result: Result = recording.run()
        return result
