"""The line before training: what a run needs, or why it cannot run."""

import types

import jax
import optax
import psutil
import pytest

from jaxlabs.training import capacity
from jaxlabs.training.capacity import ProgramMemory, TooLarge
from jaxlabs.training.evaluation import EvaluationCost
from jaxlabs.training.needs import Needs, needs

COST = EvaluationCost(
    unit="tokens",
    times=5,
    tokens=144_307,
    final_tokens=892_416,
    seconds=36.4,
    bytes=2 * 10**6,
    final_bytes=3 * 10**6,
)


@pytest.fixture
def machine(monkeypatch):
    """`machine(bytes)` sets the memory of this machine."""
    return lambda size: monkeypatch.setattr(capacity, "host_memory", lambda: size)


def test_line_has_memory_and_the_cost_of_evaluation(machine):
    machine(16_800_000_000)
    assert str(Needs(905_400_000, 123_400_000, COST)) == (
        "needs 905.4 MB of 16.8 GB on the host, 123.4 MB on each device;"
        " evaluation: 5 x 144,307 tokens + 892,416 at the end, about 36 s"
    )


@pytest.mark.skipif(jax.default_backend() != "cpu", reason="CPU devices share the machine's memory")
def test_device_memory_is_that_of_the_program_and_the_sets(make_task, make_state, machine):
    state = make_state(make_task(), optax.adam(1e-3))
    found = needs(state, ProgramMemory(arrays=10**7, temporaries=10**6), COST)
    assert found.device == 10**7 + 10**6 + 2 * 10**6
    assert found.host > 10**7
    only_state = needs(state, None, COST).device
    assert only_state == 3 * 10**6 + capacity.size_of(state)  # the sets of the end are larger
    machine(found.host)
    with pytest.raises(TooLarge, match=r"^a training step needs") as error:
        needs(state, ProgramMemory(arrays=10**12, temporaries=0), COST)
    assert error.value.remedy == "a smaller --batch_size, or more --grad_accum_steps"


def test_steps_that_do_not_fit_beside_the_data_are_refused_with_their_flags(
    make_task, make_state, machine, monkeypatch
):
    """Not as the final evaluation, which would fit without them."""
    machine(10**10)
    process = types.SimpleNamespace(memory_info=lambda: types.SimpleNamespace(rss=6 * 10**9))
    monkeypatch.setattr(psutil, "Process", lambda: process)
    state = make_state(make_task(), optax.sgd(1.0))
    program = ProgramMemory(0, 5 * 10**9 // jax.local_device_count())
    with pytest.raises(TooLarge, match=r"^a training step needs 11"):
        needs(state, program, COST)


def test_evaluation_sets_that_do_not_fit_are_refused_with_their_flag(
    make_task, make_state, machine
):
    machine(10**10)
    large = EvaluationCost("tokens", 1, 10, 10**10, 1.0, 10**6, 10**11)
    with pytest.raises(TooLarge, match=r"^the final evaluation of the text needs 10") as error:
        needs(make_state(make_task(), optax.sgd(1.0)), None, large)
    assert error.value.remedy == "a smaller --eval_tokens"
