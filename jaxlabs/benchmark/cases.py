"""Groups of benchmark cases: our precisions beside the modes of PyTorch."""

import dataclasses
import functools
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxlabs.benchmark.jax_cases import BuildTask
from jaxlabs.benchmark.timing import BFLOAT16, FLOAT32, OURS, Case, why_no_compiler
from jaxlabs.data.dataset import DataModule
from jaxlabs.data.tokenizers import CharTokenizer, WordTokenizer
from jaxlabs.training.run_config import RunConfig


@dataclasses.dataclass(frozen=True)
class LabUnderTest:
    """A lab in the benchmark."""

    config: RunConfig  #: settings of its `reference` preset
    build_task: BuildTask  #: as in `jaxlabs.runner.lab.Lab`
    load_data: Callable[[Any], DataModule]  #: as in `jaxlabs.runner.lab.Lab`


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bench:
    """Settings of all suites."""

    labs: Mapping[str, LabUnderTest]  #: labs by name
    platform: str = "cpu"  #: JAX platform of our cases; peers run on the CPU only
    small: bool = False  #: whether suites that take minutes use smaller sizes
    torch_compile: bool = True  #: whether to measure PyTorch with torch.compile
    max_length: int = 65536  #: largest sequence length of `window_attention`

    @property
    def has_pytorch(self) -> bool:
        """Whether PyTorch is available as a peer."""
        return self.platform == "cpu" and importlib.util.find_spec("torch") is not None

    def cases(
        self,
        ours: Callable[..., Any],
        theirs: Callable[..., Any] | None,
        *,
        precisions: Sequence[str] = ("highest", "bfloat16"),
        **facts: Any,
    ) -> list[Case]:
        """Returns a group: our code in each precision, PyTorch in each mode.

        On a CPU `default` equals `highest`; on other platforms it is measured as well.

        Args:
          ours: builds our workload; takes `precision`.
          theirs: builds the workload of PyTorch; takes `mode`; None without PyTorch.
          precisions: precisions of our cases.
          facts: further fields of all cases.
        """
        if self.platform != "cpu":
            precisions = ("highest", "default", *precisions[1:])
        group = [
            Case(
                framework=OURS,
                precision=name,
                build=functools.partial(ours, precision=name),
                **facts,
            )
            for name in precisions
        ]
        if theirs is None or not self.has_pytorch:
            return group
        from jaxlabs.benchmark.peers.torch_training import Mode

        reason = why_no_compiler() if self.torch_compile else "--torch_compile=false"
        dtypes = [FLOAT32] + [BFLOAT16] * (len(precisions) > 1)
        return group + [
            Case(
                framework="pytorch",
                mode="compiled" if compiled else "eager",
                precision=dtype,
                build=functools.partial(theirs, mode=Mode(compiled, dtype == BFLOAT16)),
                skipped=reason if compiled else "",
                **facts,
            )
            for compiled in (False, True)
            for dtype in dtypes
        ]

    def config(self, lab: str, settings: Mapping[str, Any] | None = None) -> RunConfig:
        """Returns a lab's settings on the bench's platform, with some replaced."""
        config = self.labs[lab].config
        changed = {"platform": self.platform} | dict(settings or {})
        return type(config).from_flat(config.flat() | changed)

    def peer(self, name: str, *arguments: Any) -> Callable[..., Any] | None:
        """Returns a function of `peers.torch_cases` with its first arguments; None without it."""
        if not self.has_pytorch:
            return None
        from jaxlabs.benchmark.peers import torch_cases

        return functools.partial(getattr(torch_cases, name), *arguments)


def size_note(size: Mapping[str, Any]) -> str:
    """Returns a note with the reduced sizes."""
    sizes = ", ".join(f"{name} {value}" for name, value in size.items())
    return f" (reduced: {sizes})" if size else ""


def char_tokenizer() -> CharTokenizer:
    """Returns a tokenizer of 65 characters, as many as tiny Shakespeare has."""
    return CharTokenizer("".join(["\n", *map(chr, range(32, 96))]))


def word_tokenizer(count: int) -> WordTokenizer:
    """Returns a tokenizer of `count` words, special ones included."""
    return WordTokenizer(tuple(sorted([".", *(f"word{number}" for number in range(count - 3))])))
