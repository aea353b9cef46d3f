"""The objective of fine-tuning against a naive one, where its gradients run, and whose sets it attends to."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from torch import Tensor

from mage.budget import Budget
from mage.errors import UserError
from mage.generation.decoding import Static
from mage.generation.engine import Engine
from mage.mage import Mage
from mage.mage_v1 import MageV1
from mage.method import Method
from mage.models.checkpoint import LanguageModel
from mage.models.diffusion import DiffusionSpec
from mage.models.transformer import Transformer
from mage.training.clean_prefix import clean_prefix
from mage.training.examples import Examples
from mage.training.noise import Noised
from mage.training.sparse_tuning import Bodies, SparseTuning
from mage.view import View
from tests.conftest import spec
from tests.mage.naive import tiny_body

SIZE, LENGTH, BUDGET = 8, 48, 6


def examples(tail: int = 8) -> Examples:
    """Two contexts with two blocks each; the prompt takes 3 slots of the first block of each."""
    generator = torch.Generator().manual_seed(7)

    def draw(*shape: int) -> Tensor:
        return torch.randint(3, 61, shape, generator=generator)

    starts = torch.tensor([3, 0, 3, 0])
    return Examples(
        contexts=draw(2, LENGTH),
        positions=torch.arange(LENGTH).repeat(2, 1) + torch.tensor([[0], [5]]),
        tails=draw(4, tail),
        tail_lengths=[tail] * 4,
        blocks=draw(4, SIZE),
        starts=starts,
        ends=torch.full((4,), SIZE),
        kinds=torch.zeros(4, dtype=torch.long),
        values=torch.zeros(4, SIZE, dtype=torch.bool),
        chained=torch.zeros(4, dtype=torch.bool),
    )


def noised(given: Examples) -> Noised:
    """The last three slots are masked, with weights that differ."""
    masked = (torch.arange(SIZE) >= SIZE - 3).expand(given.blocks.shape)
    weights = masked * torch.tensor([1.0, 2.0, 0.5, 1.0])[:, None]
    return Noised(torch.where(masked, 1, given.blocks), masked, weights, masked.long())


def tuning(method: Method | None = None, **options: object) -> SparseTuning:
    method = method or Mage(dense_layers=1)
    return SparseTuning(**{"method": method, "budget": Budget(BUDGET), "spec": spec(SIZE), **options})  # type: ignore[arg-type]


def trainable(seed: int) -> Transformer:
    return tiny_body("qwen3", seed).requires_grad_(True)


def naive_logits(body: Transformer, given: Examples, row: int, block: Tensor, sets: dict[int, Tensor]) -> Tensor:
    """One forward over everything in float32: rows of the block see in layer l the prefix entries `sets[l][kv head]`
    (none given: all) and the block."""
    context = row // 2
    tokens = torch.cat((given.contexts[context], given.tails[row], block))
    behind = given.positions[context, -1] + 1 + torch.arange(given.tails.shape[1] + SIZE)
    positions = torch.cat((given.positions[context], behind))
    prefix, whole = len(tokens) - SIZE, len(tokens)
    part = torch.arange(whole) // SIZE

    def attend(layer: int, q: Tensor, k: Tensor, v: Tensor) -> Tensor:
        seen = (part[:, None] >= part).repeat(k.shape[1], 1, 1)  # [kv_heads, rows, keys]
        if layer in sets:
            seen[:, prefix:, :prefix] = False
            for head, chosen in enumerate(sets[layer]):
                seen[head, prefix:, chosen] = True
        group = q.shape[1] // k.shape[1]
        k, v, seen = (x.repeat_interleave(group, -3) for x in (k, v, seen))
        scores = (q @ k.transpose(-1, -2) * q.shape[-1] ** -0.5).masked_fill(~seen, float("-inf"))
        return scores.softmax(-1) @ v

    return body.logits(body.hidden(tokens[None], positions[None], attend))[0, prefix:]


def decoded_sets(body: Transformer, method: Method, given: Examples, row: int) -> dict[int, Tensor]:
    """The sets that decoding attends to in a block's second step, by layer, `[kv_heads, k]`."""
    found: dict[int, Tensor] = {}

    def watch(view: View, indices: Tensor | None) -> None:
        if indices is not None and view.forward.step == 2:
            found[view.layer] = indices[0]

    start = int(given.starts[row])
    prompt = torch.cat((given.contexts[row // 2], given.tails[row], given.blocks[row, :start])).tolist()
    model = LanguageModel(body, spec(SIZE), tokenizer=None)  # type: ignore[arg-type]
    engine = Engine(model, method, Static(tokens_per_step=1), observer=watch)
    engine.generate(engine.prefill([prompt], [SIZE - start]), Budget(BUDGET))
    return found


def plain(given: Examples) -> Examples:
    """As decoding has them: positions without gaps."""
    return replace(given, positions=torch.arange(LENGTH).repeat(2, 1))


@pytest.mark.parametrize("method", [Mage(dense_layers=1), Mage(dense_layers=1, page_size=3), MageV1(dense_layers=1)])
def test_loss_is_that_of_a_naive_forward_over_the_sets_that_decoding_would_use(method: Method) -> None:
    student, teacher, given = tiny_body("qwen3", 1), tiny_body("qwen3", 2), plain(examples())
    block = noised(given)
    bodies = Bodies(student, student), Bodies(teacher, teacher)
    outcome = tuning(method, kl_weight=0.7).outcome(*bodies, given, block)
    entropies, divergences, weights = [], [], []
    for row in range(4):
        sets = decoded_sets(student, method, given, row)
        assert sets.keys() == {1, 2}
        masked = block.masked[row]
        sparse = naive_logits(student, given, row, block.tokens[row], sets)[masked].log_softmax(-1)
        exact = naive_logits(teacher, given, row, block.tokens[row], {})[masked].log_softmax(-1)
        entropies.append(-sparse.gather(1, given.blocks[row, masked, None])[:, 0])
        divergences.append((sparse.exp() * (sparse - exact)).sum(-1))
        weights.append(block.weights[row, masked])
    share = torch.cat(weights) / torch.cat(weights).sum()
    expected = (torch.cat(entropies) * share).sum(), (torch.cat(divergences) * share).sum()
    torch.testing.assert_close(outcome.cross_entropy, expected[0], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(outcome.divergence, expected[1], rtol=1e-4, atol=1e-4)
    torch.testing.assert_close(outcome.loss, expected[0] + 0.7 * expected[1], rtol=1e-4, atol=1e-4)


def test_the_dense_control_attends_to_everything() -> None:
    student, given = tiny_body("qwen3", 1), examples()
    block = noised(given)
    bodies = Bodies(student, student)
    outcome = tuning(kl_weight=1.0, objective="dense").outcome(bodies, bodies, given, block)
    assert outcome.divergence.abs() < 1e-6
    logits = torch.cat([naive_logits(student, given, r, block.tokens[r], {})[block.masked[r]] for r in range(4)])
    share = block.weights[block.masked] / block.weights.sum()
    losses = torch.nn.functional.cross_entropy(logits, given.blocks[block.masked], reduction="none")
    torch.testing.assert_close(outcome.cross_entropy, (losses * share).sum(), rtol=1e-4, atol=1e-4)


def test_the_state_of_the_selection_changes_what_is_attended_to() -> None:
    student, given = tiny_body("qwen3", 1), examples()
    bodies = Bodies(student, student)
    losses = [
        tuning(select_state=state, kl_weight=0.0).outcome(bodies, bodies, given, noised(given)).loss
        for state in ("all_masked", "same")
    ]
    assert losses[0] != losses[1]


def test_gradients_run_through_the_sparse_forward_alone() -> None:
    student, teacher, given = trainable(1), trainable(2), examples()
    outcome = tuning().outcome(Bodies(student, student), Bodies(teacher, teacher), given, noised(given))
    outcome.loss.backward()
    assert all(weight.grad is None for weight in teacher.parameters())
    assert all(weight.grad is not None and weight.grad.abs().sum() > 0 for weight in student.parameters())


def test_a_teacher_that_is_the_student_gets_no_gradient() -> None:
    """The gradient of the KL is that of a teacher whose log-probabilities are constants."""
    student, copied, given = trainable(1), trainable(1), examples()
    for body, teacher in ((student, student), (copied, tiny_body("qwen3", 1))):
        tuning().outcome(Bodies(body, body), Bodies(teacher, teacher), given, noised(given)).loss.backward()
    for (name, weight), other in zip(student.named_parameters(), copied.parameters(), strict=True):
        torch.testing.assert_close(weight.grad, other.grad, msg=name)


@pytest.mark.parametrize("wanted", [False, True])
def test_the_clean_forward_is_differentiated_only_where_asked_for(
    wanted: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def watched(*arguments: object) -> object:
        prefix = clean_prefix(*arguments)  # type: ignore[arg-type]
        seen.append(prefix.keys[-1].requires_grad)
        return prefix

    monkeypatch.setattr("mage.training.sparse_tuning.clean_prefix", watched)
    student, given = trainable(1), examples()
    bodies = Bodies(student, student)
    tuning(prefix_gradient=wanted).outcome(bodies, bodies, given, noised(given)).loss.backward()
    assert seen == [wanted]


def test_a_differentiated_prefix_gives_the_whole_gradient() -> None:
    """With dense attention it is that of one naive forward over everything."""
    student, naive, given = trainable(1), trainable(1), examples()
    block = noised(given)
    objective = tuning(objective="dense", kl_weight=0.0, prefix_gradient=True)
    objective.outcome(Bodies(student, student), Bodies(student, student), given, block).loss.backward()
    logits = torch.cat([naive_logits(naive, given, r, block.tokens[r], {})[block.masked[r]] for r in range(4)])
    losses = torch.nn.functional.cross_entropy(logits, given.blocks[block.masked], reduction="none")
    ((losses * block.weights[block.masked]).sum() / block.weights.sum()).backward()
    for (name, weight), other in zip(student.named_parameters(), naive.parameters(), strict=True):
        torch.testing.assert_close(weight.grad, other.grad, rtol=1e-3, atol=1e-5, msg=name)


def test_tails_of_different_lengths_are_as_if_alone() -> None:
    causal = DiffusionSpec(SIZE, 1, (2,), prefix_attention="causal")
    body, given = tiny_body("qwen3", 1), examples(tail=7)
    ragged = replace(given, tail_lengths=[7, 2, 0, 5])
    bodies = Bodies(body, body)
    objective = tuning(spec=causal, kl_weight=0.0)
    together = objective.outcome(bodies, bodies, ragged, noised(ragged)).loss
    alone, weights = [], []
    for row in range(4):
        tail = ragged.tail_lengths[row]
        one = {name: value[row : row + 1] for name, value in vars(ragged).items() if isinstance(value, Tensor)}
        context = {name: value[row // 2 : row // 2 + 1] for name, value in vars(ragged).items() if name in CONTEXTS}
        single = replace(ragged, **one | context, tail_lengths=[tail])
        single = replace(single, tails=single.tails[:, :tail])
        parts = {name: value[row : row + 1] for name, value in vars(noised(ragged)).items()}
        alone.append(objective.outcome(bodies, bodies, single, Noised(**parts)).loss)
        weights.append(noised(ragged).weights[row].sum())
    share = torch.stack(weights) / torch.stack(weights).sum()
    torch.testing.assert_close(together, (torch.stack(alone) * share).sum(), rtol=1e-4, atol=1e-4)


CONTEXTS = ("contexts", "positions")


@pytest.mark.parametrize(
    ("build", "told"),
    [
        (lambda: tuning(kl_weight=-1.0), "runner.kl_weight=-1.0"),
        (lambda: tuning(Mage(select_step=2)), "Allowed: mage"),
        (lambda: tuning(objective="spare"), "runner.objective"),
        (lambda: tuning(Mage(page_size=16)), "page"),
    ],
)
def test_slips_are_refused_in_one_line(build: Callable[[], object], told: str) -> None:
    with pytest.raises(UserError, match=told) as refused:
        build()
    assert "\n" not in str(refused.value)
