"""Work that is done again on the same tensors: recorded once, then repeated without its code."""

from __future__ import annotations

import warnings
from collections.abc import Callable, Hashable
from typing import Any, Protocol, TypeVar

import torch
from torch import Tensor

from mage.attention.block import BlockAttention
from mage.attention.choice import Choice
from mage.attention.forward_pass import Pass, Signature
from mage.attention.sets import Aftermath
from mage.generation.graph_memory import GraphMemories, GraphMemory, capture_stream

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
    def bookmark(self) -> Callable[[], None]: ...


class Recording(Protocol):
    """A recorded piece of work. Made where it is to be recorded, before it is done. `memory`: that of its kind."""

    def __init__(self, function: Callable[[], Any], subject: Subject, memory: GraphMemory) -> None: ...
    def run(self) -> Any: ...


class Graph:
    """Work as a CUDA graph. It must have been done before as it is, so that kernels are compiled and buffers are there.

    Raises what the work raises, or what the device finds wrong with it, such as a value that the host asks for. Then
    the process is as it was before: nothing is being captured, and the current stream is what it was.
    """

    def __init__(self, function: Callable[[], Any], subject: Subject, memory: GraphMemory) -> None:
        self._subject, self._done = subject, False
        self._graph = torch.cuda.CUDAGraph()
        pool = memory.pool
        here, aside = torch.cuda.current_stream(), capture_stream(torch.cuda.current_device())
        aside.wait_stream(here)
        subject.silence()
        try:
            with torch.cuda.stream(aside):
                self._graph.capture_begin(pool=pool, capture_error_mode="thread_local")
                try:
                    self._result = function()
                finally:
                    self._graph.capture_end()
        except Exception:
            memory.close()
            raise
        here.wait_stream(aside)
        self._aftermath = subject.aftermath

    def run(self) -> Any:
        """Do the work and return its result, a tensor that the next run writes over."""
        self._graph.replay()
        if self._done:
            self._subject.replayed(self._aftermath)
        self._done = True  # while it was captured, its code ran
        return self._result


class Call:
    """Work as what was called for it, with what the host knew then: a graph without a GPU, for tests."""

    def __init__(self, function: Callable[[], Any], subject: Subject, memory: GraphMemory) -> None:
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

    One recording is kept of each kind of work. `captures`: recordings made. Where one cannot be made, out of memory or
    by what the work does, a warning says so, and that work is done as it is and so is all that follows. An error that
    is the work's own is raised by that.
    """

    def __init__(self, recording: type[Recording] | None, memories: GraphMemories) -> None:
        """`recording`: how (None: everything is done as it is). `memories`: where, by kind."""
        self._recording, self._memories = recording, memories
        self.captures = 0
        self._met: dict[Hashable, Signature] = {}
        self._recorded: dict[Hashable, tuple[Signature, Recording]] = {}

    @property
    def recording(self) -> type[Recording] | None:
        """How; None when everything is done as it is from now on."""
        return self._recording

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
            recording = self._record(function, subject, kind)
            if recording is None:
                return function()
            self._recorded[kind] = signature, recording
        result: Result = recording.run()
        return result

    def _record(self, function: Callable[[], Any], subject: Subject, kind: Hashable) -> Recording | None:
        """Return a recording; None, with nothing changed but that no more are made, where there can be none."""
        assert self._recording is not None
        back = subject.bookmark()
        try:
            recording = self._recording(function, subject, self._memories[kind])
        except Exception as problem:
            back()
            what = str(problem).partition("\n")[0]
            warnings.warn(f"goes on without recordings: {type(problem).__name__}: {what}", RuntimeWarning, stacklevel=2)
            self._recording = None
            self._recorded.clear()
            if isinstance(problem, torch.cuda.OutOfMemoryError):
                self._memories.clear()  # so that what follows can have it
            return None
        self.captures += 1
        return recording
