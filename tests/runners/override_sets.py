"""Random command lines: valid choices and values, and whatever a hurried person may type instead."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from random import Random

from omegaconf import DictConfig, OmegaConf

from run import CONF
from runners.settings import Settings

NUMBERS = "-1 0 1 2 3 4 5 7 8 16 64 -0.5 0.3 1.0 1.5 1e30 1e-30 nan inf -inf 9999999999999".split()
NUMBERS += ["9223372036854775807", "1" + 30 * "0"]
TEXTS = "x '' null true auto [] {} [1] [1,2] [x] [null] {a:1} é 'a\u00a0b' ../x dense sparse prefix block max".split()
TEXTS += "mean english tiny a=b '%' ~ 1_000 0x10".split()
TARGETS = "x null os.path builtins.int mage.mage.Mage mage.mage.Mgae tasks.task.Task .x ..x 3 [] no.such".split()
TARGETS += "tasks.niah.NeedleInHaystack runners.settings.Settings runners.evaluate.Evaluate pathlib.Path".split()
BUDGETS = "1 2 4 8 16 32 64 100000 1.0 0.5 0.05 1e-9 0 -1 0.0 1.5 2.0 -0.5 nan inf x null true 50% 64k '' [] [8] 1e3"
LENGTHS = "[128] [64,128] [96] [32] [100] [0] [-128] [8192] [16384] 128 [] null x [1.5] [1e9] [128,x] 0 true [[64]]"
COUNTS = "1 2 3 4 8 0 -1 null x 1.5 true [1] 2.0 '' 1e2"
OWN = {
    "model.device": "cpu cuda cuda:0 cuda:7 cuda:99999999999999 gpu cpu:0 meta null 0 '' [cpu]",
    "model.dtype": "float32 bfloat16 float16 float64 float8 fp32 int8 null 32 ''",
    "task.lengths": LENGTHS,
    "runner.context": "64 128 1 31 0 -1 x null 8192 100000000",
    "runner.contexts": "[64] [64,32] [1] [0] [] x null [x] 64",
    "runner.batches": "[1] [2] [0] [] x null [x] 1",
    "runner.prefill_chunk": "32 64 1 0 -1 x null 31",
    **dict.fromkeys(("runner.batch", "runner.blocks", "runner.rounds", "runner.runs", "examples"), COUNTS),
    **dict.fromkeys(("task.max_new_tokens", "task.questions", "runner.batch_size"), COUNTS),
}
"""Fields with values of their own; large ones are no slip for most of them, but take their time."""

UNTOUCHED = ("output_dir", "name", "plan", "model.weights", "model.revision", "model.name", "tracker", "launcher")
"""Fields that say where things lie: a random value would write elsewhere or ask the hub."""

GROUPS = ("method", "task", "decoding", "runner")
TRAINERS = ("train", "finetune", "fetch", "kernels")  # run for minutes, load no cells or need a hub
FETCHED = ("longbench_e/", "longbench_v2", "ruler/qa_")  # tasks whose data is not shipped
SMALL_BODY = {
    "weights": "random",
    "tokenizer": "bytes",
    "device": "cpu",
    "dtype": "float32",
    "threads": 1,
    "adapter": "null",
    "mask_id": 256,
    "stop_ids": "[257]",
    "trained_positions": 4096,
    "body.model_type": "qwen3",
    "body.vocab_size": 258,
    "body.hidden_size": 32,
    "body.intermediate_size": 64,
    "body.num_hidden_layers": 2,
    "body.num_attention_heads": 4,
    "body.num_key_value_heads": 2,
    "body.head_dim": 8,
    "body.max_position_embeddings": 4096,
    "body.rms_norm_eps": 1e-6,
    "body.rope_theta": 10000.0,
}
"""A body that reads bytes, for tasks that are not in the tiny language."""


@dataclass(frozen=True)
class OverrideSet:
    """A command line without the place of its results. `about`: what was drawn, for a person."""

    arguments: tuple[str, ...]
    about: str


def override_set(seed: int, number: int, checkpoint: Path) -> OverrideSet:
    """Draw the command line of a seed and a number. checkpoint: of a model of the tiny language."""
    rng = Random(f"{seed}/{number}")
    kinds = {_choices: 3, _fields: 6, _mistyped: 2, _budgets: 3, _swept: 2, _experiment: 1, _broken: 1}
    (draw,) = rng.choices(list(kinds), list(kinds.values()))
    return OverrideSet(tuple(draw(rng, checkpoint)), draw.__name__.strip("_"))


def _choices(rng: Random, checkpoint: Path) -> list[str]:
    """Choices of every group, each valid in itself, in cells that take milliseconds."""
    chosen = {group: rng.choice(_offline(group)) for group in GROUPS if rng.random() < 0.6}
    if chosen.get("runner") in TRAINERS:
        chosen["runner"] = "evaluate"
    if rng.random() < 0.5:  # the others read longer prompts
        chosen["task"] = rng.choice([task for task in choices("task") if "language" in _section("task", task)])
    task = chosen.get("task", "niah")
    given = [f"{group}={choice}" for group, choice in chosen.items()]
    given += [*_model(rng, task, checkpoint), "examples=1", "dense_layers=1", "tracker=none"]
    given += [f"budget={rng.choice((16, 32, 64, 0.5))}"]
    small = {"lengths": "[128]", "needles": 4, "asked": 1, "pairs": 4, "max_new_tokens": 8, "context": 64, "rounds": 1}
    small |= {"candidates": 2, "votes": 6, "margin": 1, "chains": 2, "hops": 2, "values": 4, "keys": 2}
    small |= {"max_prompt_tokens": 512, "tokens_per_step": rng.choice((8, 32))}
    wanted = {"task": task, "runner": chosen.get("runner", "evaluate"), "decoding": chosen.get("decoding", "static")}
    for group, choice in wanted.items():
        present = _section(group, choice)
        for field, value in small.items():
            if field in present:
                given.append(f"{group}.{field}={_length(task) if field == 'lengths' else value}")
        if choice.startswith("longbench/"):
            given.append("task.data=sample")
    return given


def _fields(rng: Random, checkpoint: Path) -> list[str]:
    """Valid choices, and one to three fields with any value."""
    given = _choices(rng, checkpoint)
    names = _names(given)
    for _ in range(rng.choice((1, 1, 2, 3))):
        name = rng.choice(names)
        given = [*(g for g in given if g.partition("=")[0] != name), f"{name}={_value(rng, name)}"]
    return given


def _mistyped(rng: Random, checkpoint: Path) -> list[str]:
    """Valid choices, and a slip of the finger in a name or a choice."""
    given = _choices(rng, checkpoint)
    if rng.random() < 0.5:
        place = rng.randrange(len(given))
        given[place] = _slip(rng, given[place])
    else:
        name = rng.choice(_names(given))
        given.append(f"{_slip(rng, name)}={_value(rng, name)}")
    return given


def _budgets(rng: Random, checkpoint: Path) -> list[str]:
    """What must fit together: budget, page, block, length, layers."""
    given = [g for g in _choices(rng, checkpoint) if not g.startswith("budget=")]
    names = [n for n in _names(given) if n.endswith(("page_size", "block_size", "lengths", "dense_layers", "window"))]
    for name in rng.sample(names, min(len(names), rng.choice((0, 1, 2)))):
        pool = OWN.get(name, "0 1 2 3 4 8 16 32 33 64 128 8192 -1").split()
        given = [*(g for g in given if g.partition("=")[0] != name), f"{name}={rng.choice(pool)}"]
    return [*given, f"budget={rng.choice(BUDGETS.split())}"]


def _swept(rng: Random, checkpoint: Path) -> list[str]:
    """A sweep over several values of one or two options, some of them wrong."""
    given = [g for g in _choices(rng, checkpoint) if not g.startswith(("method=", "budget="))]
    given.append("budget=" + ",".join(rng.sample("8 16 32 0.5 0.25 64 1.0 0 x".split(), rng.choice((1, 2)))))
    given.append("method=" + ",".join(rng.sample([*choices("method"), "mgae"], rng.choice((1, 2)))))
    if rng.random() < 0.3:
        name = rng.choice(_names(given))
        given = [*(g for g in given if g.partition("=")[0] != name)]
        given.append(f"{name}={_value(rng, name)},{_value(rng, name)}")
    return ["-m", *given]


def _experiment(rng: Random, checkpoint: Path) -> list[str]:
    """A recipe narrowed to one method and budget."""
    name = rng.choice([n for n in choices("experiment") if not n.startswith(("train/", "finetune/"))])
    given = [f"+experiment={name}", "method=mage", "budget=32", "examples=1", "tracker=none"]
    given += _model(rng, rng.choice(("niah", "chat")), checkpoint)
    if rng.random() < 0.7:
        given.append(f"task={rng.choice(_offline('task'))}")
    return ["-m", *given]


def _broken(rng: Random, checkpoint: Path) -> list[str]:
    """Text that is no override, or one of another grammar."""
    given = _choices(rng, checkpoint)
    broken = "budget== =3 budget budget=[ {a} ~method ~budget +budget=3 ++x=1 method@x=mage task.=1 .a=1 budget=1,2"
    broken += " method=mage,quest seed=range(1,3) budget=choice(8,16) task=glob(*) hydra/launcher=ray hydra.run.dir=x"
    broken += " hydra/launcher=submitit_slurm model=_hub +experiment=_x task=longbench runner.change.rank=1 a.b.c=1"
    given += rng.sample(broken.split(), 1)
    return ["-m", *given] if rng.random() < 0.3 else given


def _model(rng: Random, task: str, checkpoint: Path) -> list[str]:
    """A random model that can read the task: of the tiny language, or of bytes with the options of any choice."""
    if "language" in _section("task", task) or rng.random() < 0.05:
        return [f"model.weights={checkpoint}", "model.adapter=null"]
    name = rng.choice(choices("model"))
    return [f"model={name}", *(f"++model.{field}={value}" for field, value in SMALL_BODY.items())]


def _length(task: str) -> str:
    return "[128]" if "language" in _section("task", task) else "[2048]"


def _names(given: list[str]) -> list[str]:
    """The fields of the config under the choices that are made, but for those that must not be touched."""
    chosen = dict(override.split("=", 1) for override in given if override.split("=")[0] in GROUPS)
    names = [name for name in Settings.model_fields if name not in (*GROUPS, "model")]
    sections = {"method": "mage", "task": "niah", "decoding": "static", "runner": "evaluate", "model": "tiny"}
    for group, choice in (sections | {k: v for k, v in chosen.items() if v in choices(k)}).items():
        names += _flat(_section(group, choice), f"{group}.")
    return [name for name in names if not name.startswith(UNTOUCHED) and not name.endswith((".name", ".data"))]


def _flat(section: DictConfig, prefix: str) -> list[str]:
    names = []
    for key, value in section.items_ex(resolve=False):
        names += _flat(value, f"{prefix}{key}.") if isinstance(value, DictConfig) and value else [f"{prefix}{key}"]
    return names


def _value(rng: Random, name: str) -> str:
    if name == "budget":
        return rng.choice(BUDGETS.split())
    if name.endswith("_target_"):
        return rng.choice(TARGETS)
    if name in OWN:
        return rng.choice(OWN[name].split())
    return rng.choice(NUMBERS if rng.random() < 0.6 else TEXTS)


def _slip(rng: Random, text: str) -> str:
    """One letter of the first word missing, doubled, or changed for its neighbour."""
    place = rng.randrange(max(1, len(text.partition("=")[0])))
    return (
        text[:place] + rng.choice(("", text[place] * 2, text[place + 1 : place + 2] + text[place])) + text[place + 1 :]
    )


def _offline(group: str) -> list[str]:
    return [name for name in choices(group) if not name.startswith(FETCHED)]


@lru_cache
def choices(group: str) -> list[str]:
    """The choices of a group. What begins with an underscore is a base that others share."""
    return [name for name in _files(group) if not Path(name).name.startswith("_")]


@lru_cache
def _files(group: str) -> list[str]:
    return sorted(str(path.relative_to(CONF / group).with_suffix("")) for path in (CONF / group).rglob("*.yaml"))


@lru_cache
def _section(group: str, choice: str) -> DictConfig:
    """The fields of a choice, those of the files below it included: Hydra would take a tenth of a second for each."""
    own = OmegaConf.load(CONF / group / f"{choice}.yaml")
    assert isinstance(own, DictConfig)
    named = [str(name).removesuffix("@_here_") for name in own.pop("defaults", []) if name != "_self_"]
    below = [name if name in _files(group) else str(Path(choice).parent / name) for name in named]
    merged = OmegaConf.merge(*(_section(group, name) for name in below), own)
    assert isinstance(merged, DictConfig)
    return merged
