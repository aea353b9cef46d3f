"""How Weights & Biases holds a cell's record: the kind of artifact, and the files in it."""

from __future__ import annotations

from runners.plain_record import EXAMPLES_NAME, RECORD_NAME

CELL_RECORD = "cell-record"
FILES = (RECORD_NAME, EXAMPLES_NAME)
