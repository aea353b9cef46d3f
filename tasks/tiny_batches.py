"""Training batches in the tiny language: clean contexts, each shared by several question-and-answer branches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tasks.tiny_contexts import KINDS, MAX_HOPS, VALUES, Context, Ids, encode, filler, write_context
from tasks.tiny_words import EOS, NUMBERS

# What is asked, among the kinds that a context tells.
ASKED = {"needle": 0.26, "code": 0.2, "link": 0.3, "vote": 0.1, "pair": 0.14}
ASKED_IN_BLOCK = 4  # needles that one question may ask for when the answer follows in the same block
ASKED_IN_PREFIX = 8
CHAINED = [KINDS.index("code"), KINDS.index("link")]
LATER_BLOCK = 0.4  # share of branches with one earlier block that continue a code rather than follow a question block

_COMMA, _DOT, _SEMICOLON = encode(", . ;")
_ANSWER = encode("? answer :")
_CODE_QUESTION = encode("what is the code of")
_CODE_QUESTION_TOKENS = len(_CODE_QUESTION) + 1 + len(_ANSWER)


@dataclass(frozen=True)
class Branches:
    """`rows` contexts with `branches` branches each; the last block of a branch is the one to be noised.

    contexts `[rows, length]`, positions `[rows, length]`: tokens and their positions, with gaps at sentence ends.
    tokens `[rows, branches, blocks * block_size]`: question and answer, all blocks but the last are clean. Branches
    stand at the positions behind the context. starts, ends `[rows, branches]`: in the last block, the first token of
    the answer and the end of its meaning part (its `<eos>` included); `<eos>` fills the rest. kinds `[rows,
    branches]`: index into KINDS. chained `[rows, branches]`: each token of the answer follows from the one before.
    values `[rows, branches, block_size]`: where the last block holds a value.
    """

    contexts: Ids
    positions: Ids
    tokens: Ids
    starts: Ids
    ends: Ids
    kinds: Ids
    chained: NDArray[np.bool_]
    values: NDArray[np.bool_]


@dataclass(frozen=True)
class TinyBatches:
    """Draws batches. `gap_share`: share of the contexts with gaps, where gaps are asked for."""

    block_size: int = 32
    gap_share: float = 0.7

    @property
    def kinds(self) -> tuple[str, ...]:
        """Names of `Branches.kinds`."""
        return KINDS

    def draw(
        self, rng: np.random.Generator, rows: int, length: int, branches: int, earlier: int, max_positions: int = 0
    ) -> Branches:
        """Draw a batch whose branches have `earlier` (0 to 3) clean blocks before the noised one.

        max_positions: 0, or the position up to which random gaps may spread a context.
        """
        size = self.block_size
        contexts, positions = np.empty((rows, length), dtype=np.int64), np.empty((rows, length), dtype=np.int64)
        tokens = np.empty((rows, branches, (earlier + 1) * size), dtype=np.int64)
        starts, ends, kinds = (np.empty((rows, branches), dtype=np.int64) for _ in range(3))
        # Only a long code has an answer that reaches a third or fourth block.
        code_words = {0: 0, 1: 0, 2: 2 * size - _CODE_QUESTION_TOKENS, 3: 2 * size}[earlier]
        for row in range(rows):
            context = write_context(rng, length, code_words)
            contexts[row], positions[row] = context.tokens, self._positions(rng, context.tokens, max_positions)
            for branch in range(branches):
                drawn = self._branch(rng, context, earlier)
                tokens[row, branch], starts[row, branch], ends[row, branch], kinds[row, branch] = drawn
        last = tokens[:, :, -size:]
        values = (last >= VALUES[0]) & (last <= VALUES[-1])
        chained = np.isin(kinds, CHAINED)
        return Branches(contexts, positions, tokens, starts, ends, kinds, chained, values)

    def _branch(self, rng: np.random.Generator, context: Context, earlier: int) -> tuple[Ids, int, int, int]:
        """Tokens, start and end of the answer in the last block, kind."""
        size = self.block_size
        in_prefix = earlier == 1
        code = None
        kind = str(rng.choice(context.kinds, p=_shares(context.kinds)))
        if earlier:
            # (code, question in a prefix block): answers that reach the last block; blocks before it hold the rest
            reaching = [
                (index, prefix)
                for index, (_, words) in enumerate(context.codes)
                for prefix in ((False,) if earlier == 1 else (False, True))
                if (size if prefix else _CODE_QUESTION_TOKENS) + len(words) + 1 > size * earlier
            ]
            if reaching and (earlier > 1 or rng.random() < LATER_BLOCK):
                code, in_prefix = reaching[int(rng.integers(len(reaching)))]
                kind = "code"
        question, answer = _ask(rng, context, kind, ASKED_IN_PREFIX if in_prefix else ASKED_IN_BLOCK, code)
        if in_prefix:
            question = [*filler(rng, size)[len(question) - size :].tolist(), *question]
        told = [*question, *answer]
        before = size * earlier
        row = np.full(before + size, EOS, dtype=np.int64)
        row[: len(told)] = told[: before + size]
        return row, max(0, len(question) - before), min(len(told) - before, size), KINDS.index(kind)

    def _positions(self, rng: np.random.Generator, tokens: Ids, max_positions: int) -> Ids:
        """0, 1, 2, ..., or with up to 8 gaps at sentence ends: short contexts then teach the positions of long ones."""
        length = len(tokens)
        positions = np.arange(length)
        room = max_positions - length - 4 * self.block_size
        if room <= 0 or rng.random() >= self.gap_share:
            return positions
        ends = np.flatnonzero((tokens == _DOT) | (tokens == _SEMICOLON)) + 1
        gaps = np.zeros(length + 1, dtype=np.int64)
        places = np.append(0, rng.choice(ends, min(int(rng.integers(1, 9)), len(ends)), replace=False))
        gaps[places] = rng.multinomial(int(rng.integers(0, room)), rng.dirichlet(np.ones(len(places))))
        return positions + np.cumsum(gaps)[:length]


def _shares(kinds: list[str]) -> NDArray[np.float64]:
    shares = np.array([ASKED[kind] for kind in kinds])
    return shares / shares.sum()


def _ask(
    rng: np.random.Generator, context: Context, kind: str, needles: int, code: int | None
) -> tuple[list[int], list[int]]:
    """Question and answer, `<eos>` included. `needles`: most needles in one question; `code`: which code to ask for."""
    if kind == "needle":
        return _ask_needles(rng, context, needles)
    if kind == "code":
        city, words = context.codes[int(rng.integers(len(context.codes))) if code is None else code]
        return [*_CODE_QUESTION, city, *_ANSWER], [*words, EOS]
    if kind == "link":
        return _ask_link(rng, context)
    if kind == "vote":
        assert context.winner is not None
        return [*encode("which word has the most votes"), *_ANSWER], [context.winner, EOS]
    city, word = context.pairs[int(rng.integers(len(context.pairs)))]
    return [*encode("what is the value of"), city, *_ANSWER], [word, EOS]


def _ask_needles(rng: np.random.Generator, context: Context, needles: int) -> tuple[list[int], list[int]]:
    most = min(len(context.needles), needles)
    count = most if rng.random() < 0.4 else int(rng.integers(1, most + 1))
    asked = [context.needles[index] for index in rng.choice(len(context.needles), count, replace=False)]
    question = encode("what is the secret passphrase of" if count == 1 else "what are the secret passphrases of")
    answer: list[int] = []
    for city, word in asked:
        question += [city, _COMMA]
        answer += [city, word, _COMMA]
    return [*question[:-1], *_ANSWER], [*answer[:-1], EOS]


def _ask_link(rng: np.random.Generator, context: Context) -> tuple[list[int], list[int]]:
    """From the chain's front as far as possible, or a random part of it."""
    chain = context.chains[int(rng.integers(len(context.chains)))]
    start, hops = 0, min(MAX_HOPS, len(chain) - 1)
    if rng.random() < 0.6:
        start = int(rng.integers(len(chain) - 1))
        hops = int(rng.integers(1, min(MAX_HOPS, len(chain) - 1 - start) + 1))
    question = [*encode(f"where is {NUMBERS[hops - 1]} steps after"), chain[start], *_ANSWER]
    return question, [*chain[start + 1 : start + hops + 1], EOS]
