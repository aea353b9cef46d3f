"""runner=train for a block adapter: a small recipe through the command line, resumed, and the adapter it leaves."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from mage.models.adapter import Adapter
from mage.models.chat import CHATML
from run import CONF
from runners.command import command_line
from tests.conftest import write_checkpoint
from tests.runners.conftest import last_of_each

MIX = "{weights:{needle:1,sampled:1},lengths:[[60,120,1]]}"
SMALL = (
    *("model.dtype=float32", "model.adapter=null", "model.block_size=8", "model.mask_id=299"),
    *("model.stop_ids=[298]", "runner.rank=2", "runner.alpha=2", f"runner.stages=[{{begin:0,mix:{MIX}}}]"),
    *("runner.samples={interviews:2,questions:1,max_new:8}", "runner.packing={blocks:3}", "runner.save_every=2"),
    *("runner.schedule={rises:[{steps:4,peak:0.001}]}", "runner.log_every=1", "runner.evaluation.every=3"),
    *("runner.evaluation.examples=1", "runner.evaluation.tasks.needle_kv.lengths=[900]"),
    *("runner.evaluation.tasks.needle_kv.max_new_tokens=4", "+runner.evaluation.tasks.needle_kv.buffer=500"),
)


def _train(folder: Path, *overrides: str) -> int:
    weights = write_checkpoint(folder / "base", vocab_size=300, max_position_embeddings=4096)
    letters = {letter: number for number, letter in enumerate(sorted(pre_tokenizers.ByteLevel.alphabet()))}
    letter_tokenizer = Tokenizer(models.BPE(letters, []))
    letter_tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    letter_tokenizer.decoder = decoders.ByteLevel()
    letter_tokenizer.save(str(weights / "tokenizer.json"))
    (weights / "tokenizer_config.json").write_text(json.dumps({"chat_template": CHATML}))
    recipe = ["runner=train", "+experiment=train/smollm2_135m", "tracker=none", f"output_dir={folder / 'out'}"]
    given = last_of_each([*recipe, f"model.weights={weights}", *SMALL, *overrides])
    return command_line(given, CONF, lambda: None)


def test_training_leaves_an_adapter_and_goes_on_where_it_ended(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert _train(tmp_path) == 0
    folder = tmp_path / "out" / "train_smollm2_135m"
    assert f"done: model.adapter={folder / 'adapter'}" in capsys.readouterr().out.replace("\n", "")
    adapter = Adapter.read(folder / "adapter")
    assert adapter.rank == 2 and adapter.mask_embedding is not None
    assert any(bool(b.any()) for _, b in adapter.factors.values())
    rows = [json.loads(line) for line in (folder / "train.jsonl").read_text().splitlines()]
    assert [row["step"] for row in rows if row["exact_match"]] == [3, 4]

    samples = (folder / "samples.jsonl").read_bytes()
    assert _train(tmp_path) == 0
    assert (folder / "samples.jsonl").read_bytes() == samples
    assert Adapter.read(folder / "adapter").digest == adapter.digest
    assert _train(tmp_path, "model.block_size=4") == 2
    assert "another block_size" in capsys.readouterr().err
    for name, content, told in (
        ("samples.jsonl", b'{"interview": 0}\n' + samples, "line 1 is no sample"),
        ("samples.jsonl", b"{\n" + samples, "line 1 is damaged"),
        ("state.safetensors", (folder / "state.safetensors").read_bytes()[:-100], "the state is damaged"),
    ):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(content)
        assert _train(tmp_path) == 2
        refusal = capsys.readouterr().err
        assert str(folder / name) in refusal and told in refusal and len(refusal.splitlines()) == 1
        (folder / name).write_bytes(whole)


@pytest.mark.parametrize(
    ("override", "told"),
    [
        ("runner.rank=0", "runner.rank=0 is out of range"),
        ("runner.taught=[plian]", "did you mean plain?"),
        ("runner.teacher_weight=2", "runner.teacher_weight=2"),
        ("runner.samples.interviews=0", "runner.samples.interviews=0"),
        ("runner.packing={blocks:0}", "packing.blocks=0"),
        ("+runner.packing.padding_shares=1", "padding_share"),
        ("+runner.packing.kind_weights={copies:1}", "did you mean copy?"),
        ("runner.stages=[{begin:5,mix:{}}]", "Allowed: growing steps, the first of them 0."),
        ("model.prefix_attention=block_causal", "Allowed: causal."),
    ],
)
def test_slips_are_refused_in_one_line(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], override: str, told: str
) -> None:
    assert _train(tmp_path, override) == 2
    shown = capsys.readouterr().err
    assert told in shown and len(shown.splitlines()) == 1
    assert not (tmp_path / "out").exists()
