"""What cannot work is refused in one line, with exit status 2, before anything is written."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from run import CONF, main
from runners.command import command_line
from runners.refusal import refuse_repeats
from tests.runners.conftest import records
from tests.runners.override_sets import SMALL_BODY

REFUSED = {
    "method=mgae": "did you mean mage?",
    "budgett=3": "Did you mean budget?",
    "+foo=3": "foo is not a field",
    "method.pagesize=2": "Did you mean method.page_size?",
    "+method.pagesize=2": "Did you mean method.page_size?",
    "method.page_size=x": "method.page_size=x",
    "method.reduction=sum": "method.reduction=sum",
    "budget=0": "budget=0 is out of range",
    "budget=1.5": "budget=1.5 is out of range",
    "budget=-4": "budget=-4 is out of range",
    "budget=all": "budget=all is out of range",
    "budget=[": "budget=[",
    "method=mage,quest": "add -m",
    "seed=abc": "seed=abc",
    "seed": "seed",
    "examples=0": "examples=0",
    "name=../up": "name=../up",
    f"name={'x' * 256}": "has 256 characters. Allowed: at most 255.",
    f"model.name={'x' * 256}": "characters. Allowed: at most 255.",
    "output_dir=README.md": "README.md is not a folder",
    "seed=true": "seed=true is not allowed. Allowed: an integer.",
    "seed='1'": "seed='1' (a text) is not allowed. Allowed: an integer.",
    "budget='16'": "budget='16' (a text) is out of range. Allowed: an integer",
    'budget="0.5"': "budget='0.5' (a text) is out of range. Allowed: an integer",
    "budget=''": "budget='' (a text) is out of range. Allowed: an integer",
    "examples='null'": "examples='null' (a text) is not allowed. Allowed: an integer, or null.",
    "dense_reference='true'": "dense_reference='true' (a text) is not allowed. Allowed: true, false.",
    "model.threads='1'": "model.threads='1' (a text) is not allowed. Allowed: an integer",
    "runner.timeout_s='1e3'": "runner.timeout_s='1e3' (a text) is not allowed. Allowed:",
    "task.lengths=['128']": "task.lengths=['128' (a text)] is not allowed. Allowed: an integer, or a list",
    "name=reference": "name=reference: a folder that is no experiment. Allowed: any name but reference, wandb,",
    "name=Wandb": "name=Wandb: a folder that is no experiment.",
    "name=from-wandb": "name=from-wandb: a folder that is no experiment.",
    "budget=16,": "budget=16,: an item of the list is empty. Allowed: a value between commas",
    "budget=,16": "budget=,16: an item of the list is empty.",
    "method=mage,,quest": "method=mage,,quest: an item of the list is empty.",
    "task.lengths=[128,]": "task.lengths=[128,]: an item of the list is empty.",
    "budget=${nope}": "budget=${nope}: Interpolation key 'nope' not found. Allowed: a value, or ${field} of a field",
    "budget=${nope:3}": "budget=${nope:3}: Unsupported interpolation type nope. Allowed:",
    "budget=${oc.env:NO_SUCH_VARIABLE}": "budget=${oc.env:NO_SUCH_VARIABLE}: Environment variable 'NO_SUCH_VARIABLE'",
    "method.page_size=${nope}": "method.page_size=${nope}: Interpolation key 'nope' not found.",
    "~nope": "~nope: nope is not a field of the config. Allowed: attention,",
    "~budgte": "~budgte: budgte is not a field of the config. Did you mean budget?",
    "~model.nope": "~model.nope: model.nope is not a field of the config. Allowed: adapter,",
    "~nope.x": "~nope.x: nope.x is not a field of the config.",
    "~budget=63": "~budget=63: the config has another value there. Allowed: ~budget",
    f"seed={2**63}": "is out of range. Allowed: integers below 2^63.",
    "budget=null": "budget=null is out of range",
    "=3": "=3: no field is named",
    "method=null": "method=null is not known. Allowed: dense,",
    "metod.page_size=2": "Did you mean method.page_size?",
    "method._target_=builtins.int": "method._target_=builtins.int: not a dataclass",
    "method._target_=..x": "method._target_=..x",
    "method._target_=runners.tracking.tracker.NoTracker": "NoTracker: not a Method.",
    "runner._target_=runners.tracking.wandb_tracker.WandbTracker": "WandbTracker: not a runner.",
    "tracker._target_=runners.launchers.local.Local": "tracker._target_=runners.launchers.local.Local: not a Tracker.",
    "model.body={a: 1}": "model.body.a is not a field of the config.",
    "task.lengths=[1.5]": "task.lengths=[1.5] is not allowed. Allowed: an integer, or a list, each item an integer.",
    "model.adapter=3": "model.adapter=3 is not allowed. Allowed: a text, or null.",
    "model.alignment=shfted": "did you mean shifted? Allowed: same, shifted.",
    "model.device=cuda:9999999999999": "not a device",
    "runner.timeout_s=inf": "runner.timeout_s=inf is out of range",
    "runner.timeout_s=nan": "runner.timeout_s=nan is out of range",
    "task.mentions=é": "task.mentions=é: not an override. Allowed: field=value; a value with spaces or signs in quotes",
    "task=ruler/niah_single_1": "Allowed: chat, filler, haystack,",
    "task.depths=[1.5]": "task.depths=1.5",
    "task.needels=3": "Did you mean task.needles?",
    "decoding.threshold=2": "decoding.threshold",
    "runner.batch_size=0": "runner.batch_size=0",
    "runner.on_error=ignore": "runner.on_error=ignore",
    "tracker=mlflow": "Allowed: none, wandb",
    "model.weights=nowhere": "model.weights=nowhere",
    "model.weights=nowhere.gguf": "model.weights=nowhere.gguf: no such file",
    "model.weights=random": "model.weights=random: model.body is empty",
    "model.weights=README.md": "model.weights=README.md: not a checkpoint",
    "model.tokenizer=nowhere": "model.tokenizer=nowhere: no such tokenizer. Allowed: null, qwen, bytes",
    "model.tokenizer=qwen": "Choose the tokenizer that belongs to it with model.tokenizer",
    "model.adapter=nowhere": "model.adapter=nowhere: no such folder. Allowed: null, a folder.",
    "model.adapter=conf": "model.adapter: an adapter belongs to a model with a causal prefix; model.prefix_attention=",
    "model.weights=pypi:x": "model.weights=pypi:x: not a file of a wheel. Allowed: pypi:project==version/",
    "model.yarn=1": "model.yarn=1",
    "model.yarn=x": "model.yarn=x",
    "model.trained_positions=0": "model.trained_positions=0",
    "model.prefix_attention=full": "model.prefix_attention=full",
    "model.wieghts=x": "Did you mean model.weights?",
    "model.alignment=left": "model.alignment=left",
    "model.device=gpu0": "model.device=gpu0: not a device",
    "model.dtype=float8": "model.dtype=float8",
    "model.mask_id=99999": "model.mask_id=99999",
    "model.stop_ids=[99999]": "model.stop_ids=99999",
    "model.threads=0": "model.threads=0",
    "model.block_size=48": "task.lengths=128",
    "task.lengths=[120]": "task.lengths=120",
    "task.lengths=120": "task.lengths=120",
    "task.lengths=[128,16384]": "task.lengths=16384: model=tiny has 8192 positions",
    "dense_layers=3": "dense_layers=3: model=tiny has 3 layers",
    "+experiment=dmeo": "did you mean demo?",
    "model=_hub": "model=_hub is not known",
    "task=longbench/hotpoqa": "did you mean longbench/hotpotqa?",
    "task=ruler/_base": "task=ruler/_base is not known",
    "decoding.step=4": "Did you mean decoding.steps?",
    "+model._target_=x": "model._target_",
    "method._target_=baselines.quest.Quest": "method._target_=baselines.quest.Quest: it has no field select_step",
    "runner._target_=Evaluate": "runner._target_=Evaluate: not the dotted name of a class.",
    "runner._target_=runners.kernels.Kernels": "batch_size, which runner=evaluate may set. Add runner=kernels.\n",
    "~task": "~task: task is missing from the config then. Allowed: aggregation, chat,",
    "~task=niah": "~task=niah: task is missing from the config then.",
    "~model": "~model: model is missing from the config then. Allowed: efficient_dlm_4b,",
    "~method": "~method: method is missing from the config then. Allowed: dense,",
    "~decoding": "~decoding: decoding is missing from the config then. Allowed: edit, entropy,",
    "~runner": "~runner: runner is missing from the config then. Allowed: batched, evaluate,",
    "~tracker": "~tracker: tracker is missing from the config then. Allowed: none, wandb.",
    "~budget": "~budget: budget is missing from the config then. Allowed: budget=value.",
    "~method.commit": "~method.commit: a field is given a value, not left out. Allowed: method.commit=value.",
    "~method.commit=exact": "~method.commit=exact: a field is given a value, not left out.",
    "~method.comit": "~method.comit: method.comit is not a field of the config. Did you mean method.commit?",
    "~model.yarn": "Allowed: model.yarn=value.",
    "~task.question": "Allowed: task.question=value.",
    "~decoding.sub_block": "Allowed: decoding.sub_block=value.",
    "~runner.likelihood": "Allowed: runner.likelihood=value.",
    "runner=train": "add +experiment=train/tiny or +experiment=train/smollm2_135m.",
    "runner=finetune": "runner=finetune needs runner.source of an experiment: add +experiment=finetune/tiny.",
    "+experiment=train/tiny": "runner.body is not a field of the config with runner=evaluate.",
    "+experiment=train/smollm2_135m": "no field batch_size, which runner=evaluate may set. Add runner=train.\n",
}


CASES = [[argument] for argument in REFUSED] + [["-m", argument] for argument in REFUSED if "," not in argument]


@pytest.mark.parametrize("arguments", CASES, ids=" ".join)
def test_refused_in_one_line(
    arguments: list[str], run: Callable[..., int], out: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    status = run(*arguments)
    printed = capfd.readouterr()
    assert status == 2
    assert REFUSED[arguments[-1]] in printed.err
    assert len(printed.err.splitlines()) == 1
    assert printed.out == ""
    assert not out.parent.exists()


REPEATED = {
    "method": ("method=mage", "method=quest"),
    "budget": ("budget=1", "budget=2"),
    "seed": ("seed=0", "seed=0"),
    "method.page_size": ("method.page_size=2", "++method.page_size=4"),
    "examples": ("examples=2", "~examples", "examples=3"),
    "experiment": ("+experiment=demo", "+experiment=ci"),
    "model.chat.date": ("model.chat.date=1", "model.chat.date=2"),
    "name": ("name=x", "name = y"),
}


@pytest.mark.parametrize("flags", [[], ["-m"], ["--multirun"], ["--cfg", "job"]], ids=" ".join)
@pytest.mark.parametrize("field", REPEATED)
def test_what_is_given_more_than_once_is_refused_before_anything_is_composed(
    field: str, flags: list[str], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr("runners.command.compose_sweep", lambda *_, **__: pytest.fail("composed"))
    given = REPEATED[field]
    assert command_line([*flags, given[0], "task=niah", *given[1:]], CONF, lambda: pytest.fail("composed")) == 2
    printed = capfd.readouterr()
    assert printed.err.startswith(f"{field} is given {len(given)} times: {', '.join(given)}. Allowed: one of them; -m ")
    assert len(printed.err.splitlines()) == 1 and not printed.out


def test_a_sweep_and_a_value_of_one_field_are_two(capfd: pytest.CaptureFixture[str]) -> None:
    assert command_line(["-m", "budget=16,32", "budget=64"], CONF, main) == 2
    assert capfd.readouterr().err.startswith("budget is given 2 times: budget=16,32, budget=64.")


def test_hydra_s_own_fields_and_parts_of_a_field_are_no_repetition(small: list[str], out: Path) -> None:
    given = ["hydra.verbose=false", "hydra.verbose=false", "model.chat={date: a}", "model.chat.date=b"]
    assert command_line([*small, "method=dense", "method.name=dense", *given], CONF, main) == 0
    (record,) = records(out).values()
    assert record.config["model"]["chat"] == {"date": "b"}


def test_words_that_are_no_fields_are_no_repetition() -> None:
    refuse_repeats(["--config-dir", "conf", "--config-name", "conf", "--config-dir=conf", "--config-dir=conf"])


def test_a_deletion_under_choices_that_are_swept_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    """Hydra composes the default choice first, which has no such field."""
    assert command_line(["-m", "method=snapkv,snapkv_query", "~method.window"], CONF, main) == 2
    told = capfd.readouterr().err
    assert told == "~method.window: a field is given a value, not left out. Allowed: method.window=value.\n"


def test_what_a_chat_template_is_given_can_be_left_out(run: Callable[..., int], out: Path) -> None:
    assert run("method=dense", "model.chat={date: a}", "~model.chat.date") == 0
    (record,) = records(out).values()
    assert record.config["model"]["chat"] == {}


def test_a_section_with_a_default_can_be_left_out(run: Callable[..., int], out: Path) -> None:
    assert run("method=dense", "~launcher") == 0
    assert len(records(out)) == 1


def test_one_bad_value_in_a_sweep_refuses_all(run: Callable[..., int], out: Path) -> None:
    assert run("-m", "method=mage,quest", "budget=32,8") == 2  # 8 is less than a page of quest
    assert not out.parent.exists()


def test_a_method_without_a_budget_is_not_dense_under_its_own_name(
    run: Callable[..., int], capfd: pytest.CaptureFixture[str]
) -> None:
    assert run("method=flash_block", "dense_layers=3") == 2
    assert "method=flash_block would be dense in all. Allowed: 0 to 2." in capfd.readouterr().err


def test_a_method_without_a_set_per_kv_head_has_no_recall(
    run: Callable[..., int], capfd: pytest.CaptureFixture[str]
) -> None:
    for method in ("dense", "flash_block"):
        assert run("-m", f"method=mage,{method}", "runner=recall") == 2
        told = capfd.readouterr().err
        assert f"method={method}: runner=recall" in told and len(told.splitlines()) == 1


@pytest.mark.parametrize(("count", "device"), [(0, "cuda"), (0, "cuda:0"), (2, "cuda:2")])
def test_a_device_that_is_not_there_is_refused(
    count: int,
    device: str,
    run: Callable[..., int],
    out: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: count > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: count)
    assert run(f"model.device={device}") == 2
    told = capfd.readouterr().err
    assert f"model.device={device}" in told and len(told.splitlines()) == 1
    assert not out.parent.exists()


def test_a_window_beyond_the_kept_queries_is_refused(run: Callable[..., int], out: Path) -> None:
    assert run("method=snapkv", "method.window=129") == 2
    assert run("method=snapkv", "method.kernel=9999999999999") == 2
    assert not out.parent.exists()


def test_a_share_below_a_page_is_refused(run: Callable[..., int], out: Path, capfd: pytest.CaptureFixture[str]) -> None:
    assert run("method=quest", "method.page_size=16", "task.lengths=[512,128]", "budget=0.05") == 2
    assert "budget=0.05 with task.lengths=128: a budget of 7 tokens" in capfd.readouterr().err
    assert not out.parent.exists()


def test_a_share_of_prompts_of_any_length_is_refused_by_the_first(
    run: Callable[..., int], capfd: pytest.CaptureFixture[str]
) -> None:
    reader = [f"++model.{field}={value}" for field, value in SMALL_BODY.items()]
    general = ["budget=0.05", "examples=1", "dense_layers=1", "tracker=none", *reader]
    status = command_line([*general, "task=chat", "method=quest", "method.page_size=64"], CONF, main)
    told = capfd.readouterr().err
    assert status == 2 and told.startswith("budget=0.05 with a prompt of ") and len(told.splitlines()) == 1


@pytest.mark.parametrize("field", ["save_every=0", "log_every=-1", "threads=-1"])
def test_a_training_is_refused_before_it_starts(field: str, capfd: pytest.CaptureFixture[str]) -> None:
    assert command_line(["runner=train", "+experiment=train/tiny", f"runner.{field}"], CONF, main) == 2
    told = capfd.readouterr().err
    assert told.startswith(f"runner.{field} is out of range. Allowed:") and len(told.splitlines()) == 1


@pytest.mark.parametrize("value", ["-1", "0", "nan", "inf"])
@pytest.mark.parametrize("runner", ["evaluate", "train"])
def test_a_tracker_waits_for_some_time(
    value: str, runner: str, run: Callable[..., int], out: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    added = ["+experiment=train/tiny"] if runner == "train" else []
    assert run(f"runner={runner}", *added, "tracker=wandb", f"tracker.timeout_s={value}") == 2
    told = capfd.readouterr().err
    assert told == f"tracker.timeout_s={value} is out of range. Allowed: seconds above 0, up to 1e+08.\n"
    assert not out.parent.exists()


def test_dense_layers_are_no_matter_to_dense(run: Callable[..., int]) -> None:
    assert run("method=dense", "dense_layers=3", "examples=1") == 0
