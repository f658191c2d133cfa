"""A training step of the reference character GPT is not slower than in PyTorch."""

import functools
import statistics
import time

import jax
import numpy as np
import pytest

from jaxlabs.data.tokenizers import CharTokenizer
from jaxlabs.data.windows import token_stream
from jaxlabs.labs.gpt.lab import LAB, build_task
from jaxlabs.training.advance import Advance
from jaxlabs.training.devices import data_parallel
from jaxlabs.training.initial_state import initial_state

ROUNDS = 3


@pytest.mark.benchmark
@pytest.mark.peers
def test_reference_step_is_not_slower_than_pytorch(capsys):
    config = LAB.config_class.from_flat(LAB.presets["reference"])
    tokens = np.random.default_rng(0).integers(0, 65, 100_000).astype(np.uint8)
    ours, theirs = _our_step(config, tokens), _their_step(config, tokens)
    times = {"ours": [], "theirs": []}
    ours(), theirs()
    for _ in range(ROUNDS):
        for name, step in (("ours", ours), ("theirs", theirs)):
            start = time.perf_counter()
            step()
            times[name].append(time.perf_counter() - start)
    medians = {name: statistics.median(values) for name, values in times.items()}
    ratio = medians["ours"] / medians["theirs"]
    with capsys.disabled():
        print(f"\nseconds per reference step: {times}; ratio of medians {ratio:.2f}")
    assert ratio <= 1.0


def _our_step(config, tokens):
    placement = data_parallel(jax.devices()[:1])
    data_spec = CharTokenizer("".join(map(chr, range(32, 97)))).to_json()
    task = build_task(config, data_spec)
    dataset = token_stream(tokens, config.model.context_length)
    advance = Advance(task, config, placement, dataset)
    latest = {"state": initial_state(task, config, placement)}

    def step():
        latest["state"], _ = advance(latest["state"], int(latest["state"].step) + 1)

    return step


def _their_step(config, tokens):
    torch = pytest.importorskip("torch")
    from jaxlabs.benchmark.peers.torch_models import GPT

    gpt = GPT(config.model)
    optimizer = torch.optim.AdamW(gpt.parameters(), lr=config.optimization.learning_rate)
    windows = np.lib.stride_tricks.sliding_window_view(tokens, config.model.context_length + 1)
    batch = torch.from_numpy(windows[: config.batch_size].astype(np.int64))
    loss = functools.partial(torch.nn.functional.cross_entropy, reduction="mean")

    def step():
        optimizer.zero_grad(set_to_none=True)
        logits = gpt(batch[:, :-1])
        loss(logits.flatten(0, 1), batch[:, 1:].flatten()).backward()
        optimizer.step()

    return step
