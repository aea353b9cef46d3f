"""One row of a block under insertions and deletions, in plain Python."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable
from dataclasses import dataclass, field


@dataclass
class Guess:
    """What a forward says of one slot: its best token, the best but [MASK], the best but all control tokens; the
    probability of the first two."""

    token: int
    unmasked: int
    plain: int
    confidence: float
    unmasked_confidence: float


@dataclass
class IndelRow:
    """The block of one row: `tokens`, of which the first `frozen` never change, and what the decoder remembers.

    A [MASK] is original when the block was opened with it, and stays so where it moves; those put in by a SPLIT or
    behind a deletion are not. `seen`: blocks that a forward has seen. `sampled[slot]`: tokens written there so far.
    """

    tokens: list[int]
    frozen: int
    mask: int
    delete: int
    split: int
    threshold: float
    editing_threshold: float
    max_post_steps: int
    finished: bool = False
    original: list[bool] = field(init=False)
    post_steps: int = 0
    steps: int = 0
    seen: set[tuple[int, ...]] = field(default_factory=set)
    sampled: defaultdict[int, set[int]] = field(default_factory=lambda: defaultdict(set))

    def __post_init__(self) -> None:
        self.original = [i >= self.frozen and token == self.mask for i, token in enumerate(self.tokens)]

    def step(self, guesses: list[Guess], ranked: Callable[[int, int], list[int]]) -> list[int]:
        """Apply one forward, `guesses[slot]`. Return where each slot's token stood before, -1 where it was written now.

        `ranked(slot, count)`: the best tokens of a slot, asked for only to break a loop.
        """
        old = self.tokens
        masked = [i for i in range(self.frozen, len(old)) if old[i] == self.mask]
        unresolved = [i for i in masked if self.original[i]]
        last = self._advance(bool(unresolved))
        token = {i: guesses[i].token for i in range(self.frozen, len(old))}
        confidence = {i: guesses[i].confidence for i in token}
        if not last:
            for i in unresolved:  # [MASK] for [MASK] resolves nothing
                token[i], confidence[i] = guesses[i].unmasked, guesses[i].unmasked_confidence

        filled = self._filled(masked, unresolved, confidence, last)
        if not self.max_post_steps and unresolved and set(unresolved) <= set(filled):
            last, filled = True, masked  # no forward is left for a clean-up of its own
        edited = [i for i in token if i not in masked and token[i] != old[i] and confidence[i] > self.editing_threshold]
        written = sorted(filled + edited)
        if not written:
            self.finished = True
            return list(range(len(old)))
        if last:
            for i in written:
                if token[i] in (self.mask, self.delete, self.split):
                    token[i] = guesses[i].plain
        elif tuple(old) in self.seen:
            changing = [i for i in written if token[i] != old[i]]
            if changing:
                chosen = min(changing, key=lambda i: confidence[i])
                barred = self.sampled[chosen] | ({self.mask} if chosen in unresolved else set())
                # What breaks a loop over the same blocks; with every token barred the budget must.
                token[chosen] = next((t for t in ranked(chosen, len(barred) + 1) if t not in barred), token[chosen])
        self.seen.add(tuple(old))
        for i in written:
            self.sampled[i].add(token[i])
        self.finished = last
        return self._apply({i: token[i] for i in written})

    def _advance(self, unresolved: bool) -> bool:
        """Count a forward and say whether it is the one that cleans up.

        The budget of forwards without an original [MASK] is cumulative: one that reappears does not renew it.
        """
        self.steps += 1
        self.post_steps += not unresolved
        if self.steps > len(self.tokens) + self.max_post_steps:
            return True
        return self.post_steps >= self.max_post_steps if self.max_post_steps else not unresolved

    def _filled(self, masked: list[int], unresolved: list[int], confidence: dict[int, float], last: bool) -> list[int]:
        """Return the masked slots to fill: while original ones remain, one more than were put in since, so that one of
        them is filled; afterwards all."""
        if last or not unresolved:
            return masked
        required = 1 + len(masked) - len(unresolved)
        above = [i for i in masked if confidence[i] > self.threshold]
        if len(above) >= required:
            return above
        return sorted(masked, key=lambda i: -confidence[i])[:required]

    def _apply(self, writes: dict[int, int]) -> list[int]:
        """Write tokens to slots, then carry out DELETE and SPLIT. Returns origins as `step` does."""
        size = len(self.tokens)
        tokens, original, origins = self.tokens[: self.frozen], self.original[: self.frozen], list(range(self.frozen))
        for i in range(self.frozen, size):
            token = writes.get(i)
            if token == self.delete:
                continue
            if token == self.split:
                tokens += [self.mask, self.tokens[i]]
                original += [False, self.original[i]]
                origins += [-1, i]
                continue
            tokens.append(self.tokens[i] if token is None else token)
            original.append(self.original[i])
            origins.append(i if token is None or token == self.tokens[i] else -1)
        padding = max(0, size - len(tokens))
        self.tokens = (tokens + [self.mask] * padding)[:size]
        self.original = (original + [False] * padding)[:size]
        return (origins + [-1] * padding)[:size]
