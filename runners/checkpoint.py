"""What can be told of a checkpoint folder without loading its weights: enough to refuse a damaged one at once."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from mage.errors import UserError
from mage.models.checkpoint import check_checkpoint, content_hash
from mage.models.config import BodyConfig


@dataclass(frozen=True)
class Checkpoint:
    """A folder whose files are all there and whole, as far as their headers tell."""

    folder: Path
    config: BodyConfig
    content_hash: str


@lru_cache  # the hash reads the files of the weights: once a sweep is enough
def inspect(folder: Path) -> Checkpoint:
    """Check config, tokenizer and the headers of the weights. Raises `UserError` with one line that names the file."""
    try:
        return Checkpoint(folder, check_checkpoint(folder), content_hash(folder))
    except UserError as error:
        raise error if str(folder) in str(error) else UserError(f"{folder}: {error}") from error
    except (AttributeError, TypeError, ValueError) as error:  # a number that is none, a list for an object
        raise UserError(f"{folder}: a value of another type than expected in config.json: {error}.") from error
