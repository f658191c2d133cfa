"""Commands with every tokenizer: training, and later modes on the run, without its data."""

import json
import re
import shutil

import pytest

from jaxlabs.data import tokenizers
from jaxlabs.labs.char_rnn.lab import LAB as CHAR_RNN
from jaxlabs.labs.gpt.lab import LAB as GPT
from jaxlabs.labs.speech_lm.lab import LAB as SPEECH_LM
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner import cli

pytestmark = pytest.mark.usefixtures("reused_executables", "quickly_compiled")

TRANSFORMER = "--context_length=8 --embed_dim=8 --mlp_dim=8 --num_layers=1 --num_heads=2"
PACE = ["--steps=6", "--eval_every=2", "--checkpoint_every=2", "--log_every=1"]
PACE += ["--eval_batch_size=64", "--max_new_tokens=9"]
FLAGS = {
    "gpt": f"--preset=reference {TRANSFORMER} --batch_size=4 --grad_accum_steps=1",
    "char_rnn": "--embed_dim=4 --hidden_size=8 --bptt_length=8 --batch_size=4",
    "speech_lm": f"--dataset=speaker_grammar {TRANSFORMER} --batch_size=4 --sliding_stride=8",
}
RUNS = {
    "gpt, bpe": (GPT, "bpe:280"),
    "gpt, bytes": (GPT, "bytes"),
    "gpt, word": (GPT, "word"),
    "char_rnn, bpe": (CHAR_RNN, "bpe:280"),
    "char_rnn, word": (CHAR_RNN, "word"),
    "speech_lm, bpe": (SPEECH_LM, "bpe:280"),
    "speech_lm, char": (SPEECH_LM, "char"),
}
MAIN = {"gpt": "held_out", "char_rnn": "held_out", "speech_lm": "train_text"}


@pytest.fixture(scope="module")
def runs(play, tmp_path_factory):
    """`runs(lab, tokenizer) -> folder`: a complete run, whose data lie in data/; read only."""
    home, finished = tmp_path_factory.mktemp("runs"), {}

    def run(lab, tokenizer):
        name = re.sub(r"\W", "_", f"{lab.name}_{tokenizer}")
        if name not in finished:
            folder = RunFolder(home / name)
            data = home / f"data_{name}"
            data.mkdir()
            shutil.copy(play, data / "play.txt")
            flags = FLAGS[lab.name].split() + PACE
            if lab is not SPEECH_LM:
                flags.append(f"--dataset={data / 'play.txt'}")
            flags += [f"--tokenizer={tokenizer}", f"--data_dir={data}"]
            assert cli.run(lab, [*flags, f"--workdir={folder.path}"]) == 0
            finished[name] = folder, data
        return finished[name]

    return run


def sample_of(lab, folder, capsys, *flags):
    capsys.readouterr()
    assert cli.run(lab, ["--mode=sample", f"--workdir={folder.path}", *flags]) == 0
    return capsys.readouterr().out


@pytest.mark.parametrize(("lab", "tokenizer"), RUNS.values(), ids=RUNS)
def test_a_run_reports_the_loss_in_its_unit(lab, tokenizer, runs):
    folder, _ = runs(lab, tokenizer)
    config, summary = folder.read_config(), folder.read_summary()
    unit = {"bpe:280": "token", "bytes": "byte", "word": "word", "char": "character"}[tokenizer]
    assert config["loss_unit"] == f"nats per {unit}"
    assert not [row for row in summary["comparison"] if row["unit"] in ("nats", "perplexity")]
    report = folder.report.read_text()
    assert f"nats per {unit}" in report
    counted = "5-gram" if tokenizer in ("word", "char") else "character 5-gram"
    assert counted in summary["baselines"]
    in_bits = f"{MAIN[lab.name]}_bits_per_byte" in summary["metrics"]
    assert in_bits == (tokenizer != "word")
    assert summary["metrics"].get("attention_future_weight", 0) == 0


@pytest.mark.parametrize(("lab", "tokenizer"), RUNS.values(), ids=RUNS)
def test_samples_need_no_data(lab, tokenizer, runs, tmp_path, capsys):
    """Neither the text nor the trained tokenizer; the prompt is any text where there are bytes."""
    original, _ = runs(lab, tokenizer)
    folder = RunFolder(shutil.copytree(original.path, tmp_path / "run"))
    path = folder.path / "config.json"
    config = json.loads(path.read_text())
    config["settings"] |= {"data_dir": str(tmp_path / "gone"), "dataset": str(tmp_path / "gone")}
    path.write_text(json.dumps(config))
    known = "the king" if lab is not SPEECH_LM else "the"
    prompt = known if tokenizer in ("word", "char") else "Ωλ 🦖"
    out = sample_of(lab, folder, capsys, f"--prompt={prompt}", "--num_samples=1")
    assert prompt in out
    assert cli.run(lab, ["--mode=export", f"--workdir={folder.path}"]) == 0


@pytest.mark.parametrize("lab", [GPT, CHAR_RNN])
def test_interrupted_run_resumes_to_the_same_end(lab, runs, cut_off, require_same_end):
    whole, data = runs(lab, "bpe:280")
    folder = cut_off(whole)
    flags = [*FLAGS[lab.name].split(), *PACE, "--tokenizer=bpe:280"]
    flags += [f"--dataset={data / 'play.txt'}", f"--data_dir={data}"]
    assert cli.run(lab, [*flags, f"--workdir={folder.path}"]) == 0
    require_same_end(folder, whole)


def test_finished_run_is_evaluated_and_analyzed(runs, rerun):
    rerun(GPT, runs(GPT, "bpe:280")[0])


def test_other_tokenizer_is_not_resumed(runs, tmp_path, capsys, play):
    folder, data = runs(GPT, "bpe:280")
    flags = [*FLAGS["gpt"].split(), *PACE, f"--dataset={play}"]
    for tokenizer in ("bpe:281", "char"):
        other = [f"--tokenizer={tokenizer}", f"--data_dir={data}"]
        assert cli.run(GPT, [*flags, *other, f"--workdir={folder.path}"]) == 2
        assert f"tokenizer (stored bpe:280, given {tokenizer})" in capsys.readouterr().err


def test_tokenizer_file_may_move_but_not_change(runs, tmp_path, capsys, play):
    _, data = runs(GPT, "bpe:280")
    (trained,) = (data / "tokenizers").glob("bpe-280-*.json")
    first, moved = tmp_path / "first.json", tmp_path / "moved.json"
    shutil.copy(trained, first)
    flags = [*FLAGS["gpt"].split(), *PACE, f"--dataset={play}"]
    flags.append(f"--workdir={tmp_path / 'run'}")
    assert cli.run(GPT, [*flags, f"--tokenizer={first}"]) == 0
    first.rename(moved)
    assert cli.run(GPT, [*flags, f"--tokenizer={moved}"]) == 0
    later = [f"--workdir={tmp_path / 'run'}", f"--tokenizer={moved}"]
    for mode in ("evaluate", "sample"):
        assert cli.run(GPT, [f"--mode={mode}", *later]) == 0
    capsys.readouterr()
    content = json.loads(moved.read_text())
    content["added_tokens"] = [
        {"id": 280, "content": "<|end|>", "special": True}
        | dict.fromkeys(("single_word", "lstrip", "rstrip", "normalized"), False)
    ]
    first.write_text(json.dumps(content))
    assert cli.run(GPT, [*flags, f"--tokenizer={first}"]) == 2
    assert "different settings: the tokenizer's contents; use" in capsys.readouterr().err
    first.rename(moved)
    for command in ([*flags, f"--tokenizer={moved}"], ["--mode=sample", *later]):
        assert cli.run(GPT, command) == 2
        assert f"tokenizer (stored {first}, given {moved})" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--tokenizer=bpe"], "--tokenizer: 'bpe' is not accepted; char, word, bytes, bpe:SIZE"),
        (["--tokenizer=bpe:12"], "--tokenizer: 'bpe:12' is not accepted; bpe with a vocabulary of"),
        (["--tokenizer=missing.json"], "missing.json: cannot be read (No such file or directory)"),
        (["--tokenizer=word", "--prompt=Lear"], "--prompt: unknown words 'Lear'"),
        (["--tokenizer=bytes", "--vocab_size=99"], "--vocab_size: 99 is too few for the data"),
    ],
)
def test_bad_tokenizers_are_refused_in_one_line(flags, message, play, refused):
    assert message in refused(GPT, *FLAGS["gpt"].split(), f"--dataset={play}", *flags)


def test_help_names_the_tokenizers(capsys):
    assert cli.run(GPT, ["--help"]) == 0
    shown = " ".join(capsys.readouterr().out.split())
    assert "--tokenizer" in shown
    assert " ".join(tokenizers.HELP.split()) in shown
