"""Kernels timed on a small shape, for tests."""

from __future__ import annotations

from collections.abc import Collection

import torch

from mage.attention.torch_operations import TorchOperations
from mage.budget import Budget
from mage.models.families.registry import body_config
from mage.timing.kernel_cases import KERNELS
from mage.timing.kernel_shape import KernelShape
from mage.timing.kernel_suite import KernelTiming, time_kernels
from mage.timing.roofs import Roofs
from tests.conftest import CONFIG

CPU = torch.device("cpu")
ROOFS = Roofs(bytes_per_second=1e9, flops_per_second=1e10)


def shape(batch: int = 1, budget: float = 16, context: int = 70) -> KernelShape:
    return KernelShape(
        body=body_config(CONFIG), block_size=8, context=context, batch=batch, budget=Budget(budget), page_size=16
    )


def timings(ours: TorchOperations, kernels: Collection[str] = tuple(KERNELS), batch: int = 1) -> list[KernelTiming]:
    return list(time_kernels(shape(batch), ours, ROOFS, CPU, torch.float32, kernels=kernels, runs=3))
