"""How the work of an attention kernel is cut: rows and keys of a tile, splits of the keys. No Triton in here."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import lru_cache

import torch
from torch import Tensor

REGISTERS = 65536  # of one multiprocessor, on every GPU from compute capability 8.0 on
MAX_SPLITS = 64  # what one program merges at once
PROGRAM_COST = 2  # to start and end a program, in the time of one tile of keys


@dataclass(frozen=True)
class Device:
    """What tiles are chosen by: multiprocessors, and bytes of shared memory that one program may take."""

    processors: int
    shared: int


@dataclass(frozen=True)
class Tile:
    """Rows and keys that a program holds at a time, with its warps and the stages of its load pipeline."""

    rows: int
    keys: int
    warps: int
    stages: int

    def shared(self, dim: int, itemsize: int) -> int:
        """Bytes of shared memory: the queries, and keys and values of each stage."""
        return (self.rows + 2 * self.stages * self.keys) * width_of(dim) * itemsize

    def resident(self, dim: int, itemsize: int, device: Device) -> int:
        """Programs that run on one multiprocessor at once."""
        by_registers = REGISTERS // (self.warps * 32 * 255)  # as many as a thread may take, which is what these take
        return max(1, min(by_registers, device.shared // self.shared(dim, itemsize)))


@lru_cache
def device_of(device: torch.device) -> Device:
    """Return what is known of a device; for the interpreter, which has none, a small one."""
    if device.type != "cuda":
        return Device(processors=4, shared=227 * 1024)
    from triton.runtime import driver

    # Torch tells the shared memory that a program may ask for only since 2.7.
    properties = driver.active.utils.get_device_properties(device.index)
    return Device(properties["multiprocessor_count"], properties["max_shared_mem"])


def width_of(dim: int) -> int:
    """Return the head dimension padded to what a tensor core takes."""
    return max(16, 1 << (dim - 1).bit_length())


@lru_cache
def streaming_tile(rows: int, dim: int, itemsize: int, device: Device) -> Tile:
    """Return the tile for rows that attend to many keys.

    With more than 64 rows, 128 at a time: each key that a program loads then serves as many rows as its registers can
    hold, and 128 keys at a time leave the fewest instructions between two products. With fewer, two programs fit on
    one multiprocessor: one computes weights while the other multiplies.
    """
    if itemsize > 2:  # no tensor cores: for comparison, not for speed
        tile = Tile(min(32, width_of(rows)), 32, 4, 2)
    elif rows > 64:
        tile = Tile(128, 128, 8, 3)
    else:
        tile = Tile(width_of(rows), 64, 4, 3)
    while tile.shared(dim, itemsize) > device.shared:
        if tile.keys > 64 or tile.stages == 2:
            tile = replace(tile, keys=tile.keys // 2)
        else:
            tile = replace(tile, stages=tile.stages - 1)
    return tile


def compact_tile(rows: int, dim: int, itemsize: int, device: Device) -> Tile:
    """Return the tile for rows that attend to few keys, where the time is that of one program and not of all loads:
    small ones, which run on more multiprocessors."""
    return streaming_tile(min(rows, 64), dim, itemsize, device)


@lru_cache
def splits_of(programs: int, tiles: int, slots: int) -> int:
    """Return into how many parts to cut `tiles` tiles of keys, that each of `programs` programs walks through when
    they are not cut, on a device that runs `slots` programs at once: the smallest number with the least time."""
    candidates = range(1, max(1, min(MAX_SPLITS, tiles // 2)) + 1)
    return min(candidates, key=lambda splits: time_of(programs, tiles, slots, splits))


def time_of(programs: int, tiles: int, slots: int, splits: int) -> int:
    """Return how long it takes until all parts of all programs are done, in the time of one tile."""
    waves = -(-programs * splits // slots)
    return waves * (-(-tiles // splits) + PROGRAM_COST)


def check_rows(**tensors: Tensor) -> None:
    """Raise ValueError unless the last dimension of every tensor is contiguous, as all kernels of attention read it."""
    for name, tensor in tensors.items():
        if tensor.stride(-1) != 1:
            raise ValueError(f"{name} has stride {tensor.stride(-1)} in its last dimension; attention kernels need 1")
