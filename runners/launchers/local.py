"""launcher=local: all cells in this process."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from runners.launchers.launcher import Launcher

if TYPE_CHECKING:
    from runners.cell import Cell
    from runners.sweeping.audience import Audience


@dataclass(frozen=True)
class Local(Launcher):
    """This process, cells that share a prefill together, group after group."""

    def launch(self, cells: Sequence[Cell], audience: Audience) -> None:
        audience.on_start()
        from runners.sweeping.worker import Worker  # brings torch, which a refused config need not wait for

        Worker(cells, audience).run()
