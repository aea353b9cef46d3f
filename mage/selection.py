"""From scores to index sets within a budget."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor

from mage.budget import Budget
from mage.errors import UserError
from mage.row_values import row_values


def sizes_of(budgets: list[int], lengths: list[int]) -> list[int]:
    """Return how many entries `top_k` picks, by batch row: the same in every head."""
    return [min(budget, length) for budget, length in zip(budgets, lengths)]


def keys_read(lengths: list[int]) -> list[float]:
    """Return what one pass over all keys, without the values, reads, by batch row: in token equivalents."""
    return [length / 2 for length in lengths]


def whole_pages(page_size: int, lengths: list[int]) -> bool:
    """Whether no prefix ends in a partial page: of one, the host does not know whether a head picks it."""
    return not any(length % page_size for length in lengths)


def page_sizes(page_size: int, budgets: list[int], lengths: list[int]) -> list[int] | None:
    """Return how many entries `top_pages` picks, by batch row; None where a head may or may not pick a partial page."""
    rows = list(zip(budgets, lengths))
    if any(budget < length and length % page_size for budget, length in rows):
        return None
    return [length if budget >= length else budget // page_size * page_size for budget, length in rows]


def top_k(scores: Tensor, budgets: list[int], lengths: list[int]) -> Tensor:
    """Return the indices of the highest scores of each row and head.

    `scores` `[batch, heads, n]`; row r picks `min(budgets[r], lengths[r])` among its first `lengths[r]` entries.
    Returns `[batch, heads, max picks]` in ascending order, so that a gather walks through memory forwards, padded at
    the end of a row with -1.
    """
    picks = sizes_of(budgets, lengths)
    return first_of(ranking(scores, max(picks), lengths), picks)


def ranking(scores: Tensor, count: int, lengths: list[int]) -> Tensor:
    """Return the indices of the `count` highest scores `[batch, heads, n]`, best first: `[batch, heads, count]`.

    What lies beyond `lengths[row]` comes last.
    """
    if min(lengths) < scores.shape[-1]:
        valid = torch.arange(scores.shape[-1], device=scores.device) < _by_row(lengths, scores)
        scores = scores.masked_fill(~valid, float("-inf"))
    return scores.topk(count, dim=-1).indices


def first_of(ranked: Tensor, picks: list[int]) -> Tensor:
    """Return the first `picks[row]` indices of `ranked` `[batch, heads, count]`, in the form of `top_k`."""
    chosen, last = ranked[..., : max(picks)], torch.iinfo(ranked.dtype).max
    if min(picks) < max(picks):
        surplus = torch.arange(max(picks), device=ranked.device) >= _by_row(picks, ranked)
        chosen = chosen.masked_fill(surplus, last)
    ordered = chosen.sort(-1).values
    return ordered.masked_fill(ordered == last, -1)


def top_k_mask(scores: Tensor, budgets: list[int], lengths: list[int]) -> Tensor:
    """Return which entries of `scores` `[batch, heads, rows, n]` are among the `budgets[r]` highest of their row, a
    bool tensor of that shape. Entries beyond `lengths[r]` never are.
    """
    count = min(max(budgets), scores.shape[-1])
    valid = torch.arange(scores.shape[-1], device=scores.device) < _by_row(lengths, scores)[..., None]
    if min(lengths) < scores.shape[-1]:  # a score may be as low as that of padding: zero, where it underflowed
        scores = scores.masked_fill(~valid, float("-inf"))
    best = scores.topk(count, dim=-1).indices
    wanted = torch.arange(count, device=scores.device) < _by_row(budgets, scores)[..., None]
    mask = torch.zeros_like(scores, dtype=torch.bool).scatter_(-1, best, wanted.expand(best.shape))
    return mask & valid


def page_mass(mass: Tensor, page_size: int) -> Tensor:
    """Return the `mass` `[batch, heads, n]` of each page, `[batch, heads, pages]`. What is below zero is none."""
    padded = F.pad(mass.clamp(min=0.0), (0, -mass.shape[-1] % page_size))
    return padded.unflatten(-1, (-1, page_size)).sum(-1)


def top_pages(scores: Tensor, page_size: int, budgets: list[int], lengths: list[int]) -> Tensor:
    """Return the token indices of the highest-scored pages.

    `scores` `[batch, heads, pages]` over pages of `page_size` consecutive tokens; row r picks `budgets[r] // page_size`
    pages, so never more tokens than its budget. Returns `[batch, heads, tokens]` as `top_k` does; the tokens of a
    partial last page beyond `lengths[r]` are -1. Raises `UserError` for a budget of less than one page.
    """
    page_lengths = [-(-length // page_size) for length in lengths]
    check_pages(page_size, budgets, lengths)
    # A row whose budget covers all of it takes its partial last page too.
    picks = [
        n if budget >= length else budget // page_size for budget, length, n in zip(budgets, lengths, page_lengths)
    ]
    pages = top_k(scores, picks, page_lengths)
    tokens = tokens_of(pages, page_size)
    if whole_pages(page_size, lengths):
        return tokens
    return tokens.masked_fill(tokens >= _by_row(lengths, scores), -1)


def tokens_of(pages: Tensor, page_size: int) -> Tensor:
    """Return the tokens of `pages` `[batch, heads, n]`, `[batch, heads, n * page_size]`; -1 for those of page -1."""
    offsets = torch.arange(page_size, device=pages.device)
    return (pages[..., None] * page_size + offsets).masked_fill(pages[..., None] < 0, -1).flatten(-2)


def check_pages(page_size: int, budgets: list[int], lengths: list[int]) -> None:
    """Raise `UserError` for a budget that holds no page of a prefix of more entries: a share of a short one. Budgets in
    tokens are checked beforehand."""
    for budget, length in zip(budgets, lengths):
        if budget < min(page_size, length):
            raise _less_than_a_page(budget, page_size)


def check_one_page(budget: Budget, page_size: int) -> None:
    """Raise `UserError` for a budget in tokens that does not hold one page: a page method could select nothing."""
    if isinstance(budget.value, int) and budget.value < page_size:
        raise _less_than_a_page(budget.value, page_size)


def _by_row(values: list[int], like: Tensor) -> Tensor:
    if len(set(values)) == 1:  # filled where it stands: a copy from the host would wait for the device
        return torch.full((1, 1, 1), values[0], device=like.device)
    return row_values(values, like.device)[:, None, None]


def _less_than_a_page(tokens: int, page_size: int) -> UserError:
    return UserError(
        f"a budget of {tokens} tokens is less than one page: method.page_size={page_size}. "
        "Allowed: a budget of at least one page, or a smaller method.page_size."
    )
