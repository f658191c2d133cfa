"""The command of the recurrent character model: stateful training, three temperatures."""

import math

import jax
import pytest

from jaxlabs import keys
from jaxlabs.data.batches import ContiguousStreams, TokenStream
from jaxlabs.data.tokenizers import CharTokenizer
from jaxlabs.labs.char_rnn import lab as char_rnn
from jaxlabs.labs.char_rnn.lab import LAB, PRESETS, CharRNNRunConfig
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner import cli
from jaxlabs.training.state import count_parameters

pytestmark = pytest.mark.usefixtures("reused_executables", "quickly_compiled")

TINY = [
    "--embed_dim=4",
    "--hidden_size=8",
    "--bptt_length=8",
    "--batch_size=4",
    "--eval_batch_size=16",
]
PACE = ["--steps=12", "--eval_every=4", "--checkpoint_every=4", "--log_every=1"]
SHORT = ["--max_new_tokens=9", "--dropout=0.2", "--seed=1"]
SIXTY_FIVE = CharTokenizer("".join(map(chr, range(65, 130)))).to_json()


def run(path, play, *flags):
    flags = [*TINY, *PACE, *SHORT, f"--dataset={play}", f"--workdir={path}", *flags]
    assert cli.run(LAB, flags) == 0
    return RunFolder(path)


@pytest.fixture(scope="module")
def whole(play, tmp_path_factory):
    """An uninterrupted run; read only."""
    return run(tmp_path_factory.mktemp("whole") / "run", play)


def test_outputs_are_losses_perplexities_and_samples_at_three_temperatures(whole):
    metrics = whole.read_summary()["metrics"]
    for split in ("held_out", "held_out_windows", "train_windows"):
        perplexity = math.exp(metrics[f"{split}_loss"])
        assert metrics[f"{split}_perplexity"] == pytest.approx(perplexity)
    samples = (whole.samples / "final.txt").read_text()
    sections = samples.split("===== temperature ")[1:]
    assert [float(section.split("\n")[0]) for section in sections] == [0.7, 1.0, 1.2]
    for section in sections:
        assert section.split("\n", 1)[1].removesuffix("\n").startswith("ROMEO:")
    assert {"sample_longest_copy_at_0.7", "sample_longest_copy_at_1.2"} <= metrics.keys()
    assert {"loss.png"} <= {path.name for path in whole.figures.iterdir()}


def test_interrupted_run_resumes_to_the_same_end(whole, cut_off, require_same_end, play, capsys):
    """Within an epoch: the states are restored from the checkpoint."""
    folder = cut_off(whole)
    run(folder.path, play)
    assert "resuming at step 8" in capsys.readouterr().err
    require_same_end(folder, whole)


def test_finished_run_can_be_rerun_evaluated_and_analyzed(whole, rerun):
    rerun(LAB, whole)


def test_samples_at_one_temperature(whole, capsys):
    flags = ["--mode=sample", f"--workdir={whole.path}", "--prompt=the king", "--temperature=0"]
    assert cli.run(LAB, flags) == 0
    heading, sample = capsys.readouterr().out.removesuffix("\n").split("\n", 1)
    assert heading == "===== temperature 0.0"
    assert sample.startswith("the king")
    assert len(sample) == len("the king") + 9


@pytest.mark.parametrize("stateful", [True, False])
def test_states_are_carried_for_contiguous_streams_only(stateful, play):
    config = CharRNNRunConfig.from_flat(
        {"dataset": str(play), "bptt_length": 8, "stateful": stateful}
    )
    data = char_rnn.load_data(config)
    task = char_rnn.build_task(config, data.data_spec)
    assert isinstance(data.train, ContiguousStreams if stateful else TokenStream)
    assert (task.init_carry(4) is not None) == stateful


def test_parameter_counts_of_the_presets():
    def parameters(preset):
        task = char_rnn.build_task(CharRNNRunConfig.from_flat(PRESETS[preset]), SIXTY_FIVE)
        return count_parameters(jax.eval_shape(task.init, keys.stream(0, "init"))["params"])

    assert parameters("reference") == 320_961
    assert parameters("best") <= 3_300_000
    reference = CharRNNRunConfig.from_flat(PRESETS["reference"])
    model = reference.model
    assert (model.cell, model.embed_dim, model.hidden_size, model.num_layers) == (
        "gru",
        128,
        256,
        1,
    )
    assert reference.optimization.grad_clip_norm is not None


@pytest.fixture
def empty(tmp_path):
    path = tmp_path / "empty.txt"
    path.touch()
    return path


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--cell=grus"], "--cell: 'grus' is not accepted; one of rnn, lstm, gru"),
        (["--prompt=ROMEO€"], "--prompt: "),
        (["--prompt="], "--prompt: '' is not accepted"),
        (["--bptt_length=0"], "--bptt_length: 0 is not accepted"),
        (["--bptt_length=2000"], "--bptt_length=2000"),
        (["--batch_size=600"], "--batch_size=600: the training text has"),
        (["--temperature=-1"], "--temperature: -1.0 is not accepted"),
        (["--dataset=EMPTY"], "the file is empty"),
    ],
)
def test_bad_input_is_an_error_of_one_line(flags, message, play, empty, refused):
    flags = [flag.replace("EMPTY", str(empty)) for flag in flags]
    assert message in refused(LAB, *TINY, f"--dataset={play}", *flags)
