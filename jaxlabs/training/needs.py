"""What a run will need, in one line before it trains: memory, and the cost of evaluation."""

import dataclasses

import jax
import psutil

from jaxlabs.training import capacity, memory
from jaxlabs.training.capacity import ProgramMemory
from jaxlabs.training.evaluation import EvaluationCost
from jaxlabs.training.sharding import bytes_per_device
from jaxlabs.training.state import TrainState


@dataclasses.dataclass(frozen=True)
class Needs:
    """What a run will need.

    Attributes:
      host: peak memory of this process on the host, in bytes.
      device: memory of each device for a training step and the evaluation sets, in bytes.
      evaluation: tokens and seconds of the evaluations.
    """

    host: int
    device: int
    evaluation: EvaluationCost

    def __str__(self) -> str:
        """Returns one line, such as `needs 0.9 GB of 16.8 GB on the host, ...`."""
        host = f"{_size(self.host)} of {_size(capacity.host_memory())} on the host"
        limit = capacity.device_memory()
        device = f"{_size(self.device)}{'' if limit is None else f' of {_size(limit)}'}"
        cost = self.evaluation
        times = f"{cost.times} x " if cost.times > 1 else ""
        reads = [f"{times}{cost.tokens:,} {cost.unit}"] if cost.times else []
        reads += [f"{cost.final_tokens:,} at the end"] if cost.final_tokens else []
        evaluation = f"{' + '.join(reads)}, about {cost.seconds:.0f} s"
        return f"needs {host}, {device} on each device; evaluation: {evaluation}"


def needs(state: TrainState, program: ProgramMemory | None, evaluation: EvaluationCost) -> Needs:
    """Returns what a run will need, from what is in memory before it trains.

    Args:
      state: the state at its start, on the devices.
      program: memory of the compiled training steps; None: only that of the state is known.
      evaluation: cost of the evaluations.

    Raises:
      TooLarge: it does not fit; the error names the setting that makes it fit.
    """
    held = bytes_per_device(state)
    arrays, temporaries = (held, 0) if program is None else program
    step, final = arrays + temporaries + evaluation.bytes, held + evaluation.final_bytes
    on_cpu = jax.local_devices()[0].platform == "cpu"
    # The CPU's arrays are there already. An accelerator's state is copied for its checkpoint.
    more = temporaries * jax.local_device_count() if on_cpu else held
    rss = psutil.Process().memory_info().rss
    host = max(memory.peak_memory(), rss + more)
    capacity.require(step, "a training step")
    capacity.require_host(host, "a training step")
    at_the_end = f"the final evaluation{' of the text' if evaluation.unit == 'tokens' else ''}"
    capacity.require_host(rss + evaluation.final_bytes, at_the_end)
    capacity.require(final, at_the_end)
    return Needs(host, max(step, final), evaluation)


def _size(count: float) -> str:
    return f"{count / 1e9:,.1f} GB" if count >= 1e9 else f"{max(count, 1e5) / 1e6:,.1f} MB"
