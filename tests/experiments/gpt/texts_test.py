"""The character GPT on various texts: losses and samples."""

import math
import random

import pytest

from jaxlabs.labs.gpt.lab import LAB
from jaxlabs.run_folder import RunFolder
from jaxlabs.run_folder.files import SEPARATOR
from jaxlabs.runner import cli

pytestmark = pytest.mark.usefixtures("reused_executables")

LETTERS = "abcdefghijklmnop"


@pytest.fixture(scope="module")
def noise(tmp_path_factory):
    """A text of independent letters: the lowest reachable loss is ln 16."""
    path = tmp_path_factory.mktemp("noise") / "noise.txt"
    path.write_text("".join(random.Random(1).choices(LETTERS, k=4000)))
    return path


@pytest.mark.slow
def test_loss_collapses_only_without_the_causal_mask(
    noise, tiny_flags, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    model = ["--embed_dim=32", "--mlp_dim=32", "--positions=learned", "--dropout=0"]
    pace = ["--steps=400", "--batch_size=32", "--learning_rate=1e-2", "--checkpoint_every=1000"]
    flags = [*tiny_flags, *model, *pace, f"--dataset={noise}", "--eval_every=1000"]
    losses = {}
    for name, more in {"": [], "-unmasked": ["--no_causal_mask"]}.items():
        assert cli.run(LAB, [*flags, *more]) == 0
        folder = RunFolder(f"runs/gpt-reference{name}")
        losses[name] = folder.read_summary()["metrics"]
    assert losses[""]["held_out_loss"] > 0.99 * math.log(len(LETTERS))
    assert losses[""]["train_loss"] > 0.8 * math.log(len(LETTERS))
    assert losses["-unmasked"]["train_loss"] < 0.2 * math.log(len(LETTERS))
    assert losses[""]["attention_future_weight"] == 0


# Of equal size, to share compiled functions.
ALPHABETS = {
    "greek": "αβγδεζηθικλ ,\n",
    "chinese": "天地玄黄宇宙洪荒日月盈昃\r\n",
    "without a line end": "abcdefghijklmn",
}


@pytest.mark.slow
@pytest.mark.parametrize("name", ALPHABETS)
def test_training_and_sampling_in_any_alphabet(name, ours, tmp_path, capsys):
    alphabet, book = ALPHABETS[name], tmp_path / "book.txt"
    text = "".join(random.Random(0).choices(alphabet, k=600))
    book.write_bytes(text.encode())
    folder = ours(f"--dataset={book}", "--steps=4")
    capsys.readouterr()
    assert cli.run(LAB, ["--mode=sample", f"--workdir={folder.path}"]) == 0
    samples = capsys.readouterr().out.removesuffix("\n").split(SEPARATOR)
    assert len(samples) == 3
    assert all(set(one) <= set(alphabet) for one in samples)
    first = "\n" if "\n" in alphabet else "a"
    assert [one[0] for one in samples] == [first] * 3
    assert [len(one) for one in samples] == [9] * 3
    assert folder.read_summary()["metrics"]["sample_longest_copy"] >= 1


@pytest.mark.slow
def test_padding_rows_of_the_vocabulary_are_never_sampled(ours, capsys, play):
    folder = ours("--vocab_size=256", "--steps=0")
    capsys.readouterr()
    flags = ["--temperature=5", "--num_samples=8", "--max_new_tokens=40", "--prompt=ROMEO:"]
    assert cli.run(LAB, ["--mode=sample", f"--workdir={folder.path}", *flags]) == 0
    samples = capsys.readouterr().out.removesuffix("\n").replace(SEPARATOR, "")
    assert len(samples) == 8 * (len("ROMEO:") + 40)
    assert set(samples) <= set(play.read_text())


@pytest.mark.slow
def test_loss_on_a_markov_source_approaches_the_entropy_rate(ours):
    model = ["--embed_dim=32", "--mlp_dim=64", "--dropout=0", "--eval_batch_size=256"]
    pace = ["--steps=300", "--batch_size=64", "--eval_every=1000", "--checkpoint_every=1000"]
    rate = ["--learning_rate=1e-2", "--lr_schedule=cosine"]
    folder = ours("--dataset=markov", *model, *pace, *rate)
    summary = folder.read_summary()
    entropy_rate = summary["baselines"]["entropy_rate"]
    assert summary["metrics"]["held_out_loss"] == pytest.approx(entropy_rate, rel=0.02)
    assert summary["baselines"]["unigram"] > 1.2 * entropy_rate  # so that the bound is informative


@pytest.mark.slow
@pytest.mark.real_data
def test_tiny_shakespeare_is_comparable(ours, data_dir):
    flags = [
        "--dataset=tiny_shakespeare",
        f"--data_dir={data_dir}",
        "--context_length=128",
        "--steps=0",
    ]
    folder = ours(*flags)
    dataset = folder.read_config()["dataset"]
    assert (dataset["characters"], dataset["distinct_characters"]) == (1_115_394, 65)
    for row in folder.read_summary()["comparison"]:
        assert "other settings than the preset's" in row["not_comparable_reason"]
