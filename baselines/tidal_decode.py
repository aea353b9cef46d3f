"""TidalDecode: a few layers select, the layers between them reuse."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar, Literal, Self

from mage.errors import UserError
from mage.method import REUSE, SELECT_AFTER, Method, Plan, Selection
from mage.selection import keys_read
from mage.view import Forward, View

CORRECTION_LAYER = 9  # the paper's, for bodies of 32 layers


@dataclass(frozen=True, kw_only=True)
class TidalDecode(Method):
    """The first sparse layer and one correction layer attend to the whole prefix; their attention mass picks the top-k
    of each KV head. Every other layer attends to the entries of the nearest such layer below it, in its own keys and
    values: the important entries hardly change from layer to layer. (arXiv 2410.05076, section 3.)

    Adapted to a block of queries: one set per KV head by the mass averaged over the block's rows and the query group;
    the paper ranks by the logits of one query, a set per query head. `when`: choose at every `step`, as the paper, or
    once per `block`, in its first step; the two layers then attend to their own sets for the rest of the block.
    `correction_layer`: None is the paper's layer 9, or half-way up the sparse layers of a body too shallow for that.
    """

    capturable: ClassVar[bool] = True
    dense_layers: int = 2
    correction_layer: int | None = None
    when: Literal["step", "block"] = "step"

    def __post_init__(self) -> None:
        super().__post_init__()
        self.check_choice("when", ("step", "block"))

    def for_model(self, num_layers: int, block_size: int) -> Self:
        dense, correction = self.dense_layers, self.correction_layer
        if correction is None:
            correction = max(dense, min(CORRECTION_LAYER, (dense + num_layers) // 2, num_layers - 2))
        elif not dense <= correction < num_layers:
            raise UserError(
                f"method.correction_layer={correction}: the model has {num_layers} layers, the first {dense} of them "
                f"dense. Allowed: null, or {dense} to {num_layers - 1}."
            )
        method = replace(self, correction_layer=correction)
        sparse = range(dense, num_layers)
        if sparse and self.when == "step" and all(method.source_layer(layer) == layer for layer in sparse):
            raise UserError(
                f"dense_layers={dense}, method.correction_layer={correction}: of {num_layers} layers none would reuse "
                "a set. Allowed: fewer dense layers, another correction layer, or method.when=block."
            )
        return method

    def source_layer(self, layer: int) -> int:
        correction = self.correction_layer
        return correction if correction is not None and layer >= correction else self.dense_layers

    def plan_step(self, forward: Forward) -> Plan:
        chooses = self.when == "step" or (forward.step == 1 and not forward.commit)
        return SELECT_AFTER if chooses else REUSE

    def is_steady(self, lengths: list[int]) -> bool:
        return True

    def metadata_of(self, lengths: list[int]) -> list[float]:
        return keys_read(lengths)

    def select(self, view: View) -> Selection:
        chosen, counts = view.best(view.mass(), masked=True)
        return Selection(chosen, self.metadata_of(view.lengths), sizes=self.entries_of(view), counts=counts)
