"""A small run folder with all files of a character model's run."""

import numpy as np
import pytest

from jaxlabs import published
from jaxlabs.labs.gpt.lab import LAB
from jaxlabs.report.page import write_report
from jaxlabs.run_folder import RunFolder

STEPS = 2000
SETTINGS = {
    "seed": 0,
    "steps": STEPS,
    "batch_size": 12,
    "dataset": "tiny_shakespeare",
    "platform": "cpu",
    "context_length": 64,
    "embed_dim": 128,
    "num_layers": 4,
    "num_heads": 4,
    "learning_rate": 2e-3,
    "dropout": 0.0,
    "window": None,
}
SAMPLE = """ROMEO:
What is the matter, and the sea doth <stand> & fall,
That thou art not so well; "yet" I'll be hang'd.

JULIET:
O, thou wilt be the world, and make a man
To hear the people's hearts upon the ground?
"""


def loss_after(step, floor):
    return floor + (4.17 - floor) * (1 + step / 25) ** -0.85


def training_rows(seed):
    rng = np.random.default_rng(seed)
    for step in range(10, STEPS + 1, 10):
        yield {
            "step": step,
            "split": "train",
            "loss": float(loss_after(step, 1.58) + 0.05 * rng.standard_normal()),
            "learning_rate": 2e-3
            * min(step / 100, 0.55 + 0.45 * float(np.cos(np.pi * step / STEPS))),
            "gradient_norm": float(0.3 + 2 * np.exp(-step / 60) + 0.05 * rng.random()),
            "seconds": 0.03 * step,
            "steps_per_second": 33.0,
        }


def evaluation_rows():
    floors = {"held_out": 1.70, "train_windows": 1.52, "train_and_val": 1.54}
    for step in range(250, STEPS + 1, 250):
        for split, floor in floors.items():
            loss = loss_after(step, floor)
            yield {"step": step, "split": split, "loss": loss, "seconds": 0.03 * step}


def causal_maps(layers, heads, time, seed):
    logits = np.random.default_rng(seed).normal(size=(layers, heads, time, time)) * 1.5
    offset = np.arange(time)[:, None] - np.arange(time)[None, :]
    for layer in range(layers):
        for head in range(heads):
            logits[layer, head] -= 0.6 * np.abs(offset - layer) * (head + 1) / heads
    logits = np.where(offset >= 0, logits, -np.inf)
    weights = np.exp(logits - logits.max(axis=-1, keepdims=True))
    return weights / weights.sum(axis=-1, keepdims=True)


def sinusoidal(positions, width):
    angles = np.arange(positions)[:, None] / 10_000 ** (np.arange(0, width, 2)[None, :] / width)
    return np.stack([np.sin(angles), np.cos(angles)], axis=-1).reshape(positions, width)


def write_arrays(folder):
    text = "First Citizen:\nBefore we proceed any further, hear me speak."[:48]
    maps = causal_maps(4, 4, len(text), seed=1)
    np.savez(folder.arrays("attention_maps"), maps=maps, labels=np.array(list(text)))
    np.savez(folder.arrays("positions"), table=sinusoidal(64, 128))
    rates = np.geomspace(1e-5, 1.0, 120)
    loss = (
        4.17 - 1.9 / (1 + (3e-3 / rates) ** 1.5) + 2.5 * np.maximum(np.log10(rates / 0.05), 0) ** 2
    )
    noise = 0.04 * np.random.default_rng(2).standard_normal(rates.size)
    np.savez(folder.arrays("lr_range"), learning_rate=rates, loss=loss + noise)


def write_run(path):
    """Writes the folder of a completed run and returns it."""
    folder = RunFolder(path)
    folder.create()
    folder.write_config(
        {
            "experiment": "gpt",
            "preset": "quick",
            "settings": SETTINGS,
            "preset_settings": SETTINGS | {"learning_rate": 1e-3},
            "versions": {"jax": "0.10.2", "flax": "0.12.8"},
            "command": "python -m experiments.gpt --learning_rate=0.002",
            "device": {"platform": "cpu", "kind": "cpu", "devices": 1, "processes": 1},
            "dataset": {"name": "tiny_shakespeare", "characters": 1_115_394},
        }
    )
    folder.append_metrics(list(training_rows(seed=0)))
    folder.append_metrics(list(evaluation_rows()))
    final = {row["split"] + "_loss": row["loss"] for row in evaluation_rows()}
    metrics = {"train_loss": 1.62, "sliding_window_loss": 1.71, "sample_real_words": 0.83} | final
    facts = metrics | {"parameters": 808_769, "seconds": 61.2}
    folder.write_summary(
        {
            "experiment": "gpt",
            "preset": "quick",
            "dataset": "tiny_shakespeare",
            "seed": 0,
            "steps": STEPS,
            "parameters": 808_769,
            "parameters_sha256": "ab" * 32,
            "seconds": 61.2,
            "steps_per_second": 32.7,
            "compile_seconds": 4.1,
            "peak_memory_bytes": 412_000_000,
            "metrics": metrics,
            "baselines": {"uniform": 4.174, "unigram": 3.31, "bigram": 2.47, "5-gram": 2.02},
            "comparison": published.compare(LAB.published, "quick", facts),
            "environment": {"python": "3.11.9", "cpu_count": 2},
        }
    )
    for step in (250, 500, 1000):
        (folder.samples / f"step-{step:06d}.txt").write_text(
            f"ROMEO:\nstep {step} <b>of</b> & all\n"
        )
    (folder.samples / "final.txt").write_text(SAMPLE)
    write_arrays(folder)
    return folder


@pytest.fixture(scope="session")
def reported_run(tmp_path_factory):
    """The folder of a completed run with its report; tests only read it."""
    folder = write_run(tmp_path_factory.mktemp("runs") / "reported")
    write_report(folder, LAB)
    return folder


@pytest.fixture
def run(tmp_path):
    """The folder of a completed run."""
    return write_run(tmp_path / "run")


@pytest.fixture
def short_run(run):
    """The folder of a completed run with few rows and without arrays, for speed."""
    rows = [row for row in run.read_metrics() if row["step"] % 250 == 0]
    run.metrics.unlink()
    run.append_metrics(rows)
    for path in run.arrays("any").parent.glob("*.npz"):
        path.unlink()
    return run


@pytest.fixture
def fresh_run(tmp_path):
    """The folder of a run without logged rows."""
    folder = RunFolder(tmp_path / "fresh")
    folder.create()
    folder.write_config({"experiment": "gpt", "preset": "quick", "settings": {}})
    return folder
