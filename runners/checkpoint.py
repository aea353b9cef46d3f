"""What can be told of a checkpoint without loading its weights: enough to refuse a damaged one at once."""

from __future__ import annotations

import hashlib
import sys
from dataclasses import dataclass, replace
from functools import lru_cache

from mage.errors import UserError
from mage.models.adapter import Adapter
from mage.models.checkpoint import check_tokenizer, content_hash
from mage.models.config import BodyConfig, with_yarn
from mage.models.location import locate_adapter
from mage.models.opening import open_source, open_tokenizer
from mage.models.source import Source, check_source
from mage.models.tokenizer import Tokenizer
from runners.settings import ROOT, ModelSettings

ELSEWHERE: dict[str, object] = {
    "name": "",
    "device": "cpu",
    "dtype": "float32",
    "threads": None,
    "block_size": 1,
    "alignment": "same",
    "prefix_attention": "block_causal",
    "anchored": False,
}
"""Neutral values of the fields that say nothing about the files."""


@dataclass(frozen=True)
class Checkpoint:
    """A source whose files are all there and whole, as far as their headers tell.

    `adapter`: of denoising forwards, fits the body. `config`: the body, stretched by YaRN where that is asked for.
    `trained_positions`: the window that the model was trained with. `content_hash`: of everything here that can change
    a result, also of that window. `body_hash`: the same without the adapter.
    """

    source: Source
    tokenizer: Tokenizer
    adapter: Adapter | None
    config: BodyConfig
    trained_positions: int
    content_hash: str
    body_hash: str


def inspect(model: ModelSettings) -> Checkpoint:
    """Check adapter, config, tokenizer and the headers of the weights; what lies elsewhere is downloaded first.

    Raises `UserError` with one line that names the file.
    """
    # The forward before a block of one token decides all of it: no denoising step is left that an adapter could change.
    if model.block_size == 1 and (model.anchored or model.alignment == "shifted"):
        model = model.model_copy(update={"adapter": None})
    # How the model is run and writes a block is left out, so that files are looked at once a sweep.
    return _inspected(model.model_copy(update=ELSEWHERE).model_dump_json())


@lru_cache  # the hash may read the files of the weights
def _inspected(text: str) -> Checkpoint:
    model = ModelSettings.model_validate_json(text)
    adapter = None if model.adapter is None else Adapter.read(locate_adapter(model.adapter, ROOT))
    source = open_source(model.weights, revision=model.revision, body=model.body, root=ROOT, say=_say)
    declared = check_source(source)
    if adapter is not None:
        adapter.check(declared)
    tokenizer = open_tokenizer(
        model.tokenizer,
        source,
        mask_id=model.mask_id,
        stop_ids=model.stop_ids,
        options=model.chat,
        root=ROOT,
        say=_say,
    )
    check_tokenizer(tokenizer, declared, source)
    trained = model.trained_positions or declared.max_positions
    config = declared
    if model.yarn is not None:
        try:
            config = with_yarn(replace(declared, max_positions=trained), model.yarn)
        except UserError as error:
            raise UserError(f"{source.place}: {error}") from error
    content = f"{content_hash(source, tokenizer, config)}:{trained}"
    adapted = content if adapter is None else f"{content}:{adapter.digest}"
    digests = [hashlib.sha256(text.encode()).hexdigest()[:16] for text in (adapted, content)]
    return Checkpoint(source, tokenizer, adapter, config, trained, *digests)


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)
