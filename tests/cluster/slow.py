"""A runner whose examples take the time that an environment variable says: jobs must be found at work."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel

from runners.evaluate import Evaluate

SECONDS = "MAGE_TEST_SECONDS"


@dataclass(frozen=True, kw_only=True)
class Slow(Evaluate):
    """runner=evaluate, slower."""

    def compute(self, cell: Any, bench: Any, questions: Sequence[Any]) -> list[BaseModel]:
        time.sleep(float(os.environ.get(SECONDS, "0")))
        return super().compute(cell, bench, questions)
