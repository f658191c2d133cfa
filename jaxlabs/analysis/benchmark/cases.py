"""Who is measured against whom: what suites of the benchmark are made from."""

import dataclasses
import functools
import importlib.util
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from jaxlabs.analysis.benchmark.jax_cases import BuildTask
from jaxlabs.analysis.benchmark.timing import BFLOAT16, FLOAT32, OURS, Case, why_no_compiler
from jaxlabs.data.dataset import Data
from jaxlabs.data.tokenizers import CharTokenizer, WordTokenizer
from jaxlabs.training.run_config import RunConfig


@dataclasses.dataclass(frozen=True)
class LabUnderTest:
    """What a lab hands over.

    Attributes:
      config: its settings, those of its `reference` preset.
      build_task: as in `jaxlabs.lab.Lab`.
      load_data: likewise.
    """

    config: RunConfig
    build_task: BuildTask
    load_data: Callable[[Any], Data]


@dataclasses.dataclass(frozen=True, kw_only=True)
class Bench:
    """All that suites are made from.

    Attributes:
      labs: by name.
      platform: where our side runs; the peers run on CPUs alone.
      reduced: whether what takes minutes is made smaller.
      compiled_peers: whether PyTorch's compiled modes are measured.
      longest: tokens of the longest text of `window_attention`.
    """

    labs: Mapping[str, LabUnderTest]
    platform: str = "cpu"
    small: bool = False
    compiled_peers: bool = True
    max_length: int = 65536

    @property
    def has_pytorch(self) -> bool:
        """Whether there are peers."""
        return self.platform == "cpu" and importlib.util.find_spec("torch") is not None

    def cases(
        self,
        ours: Callable[..., Any],
        theirs: Callable[..., Any] | None,
        *,
        precisions: Sequence[str] = ("highest", "bfloat16"),
        **facts: Any,
    ) -> list[Case]:
        """Returns a group: ours in each precision, PyTorch in each of its modes.

        On a CPU `default` is the same as `highest`, elsewhere it is measured as well.

        Args:
          ours: takes `precision`.
          theirs: takes `mode`; None where there is no PyTorch.
          precisions: of ours.
          facts: of all variants.
        """
        if self.platform != "cpu":
            precisions = ("highest", "default", *precisions[1:])
        group = [
            Case(framework=OURS, precision=name, build=_with(ours, precision=name), **facts)
            for name in precisions
        ]
        if theirs is None or not self.has_pytorch:
            return group
        from jaxlabs.peers.torch_training import Mode

        left_out = why_no_compiler() if self.compiled_peers else "--compiled_peers=false"
        kinds = [FLOAT32] + [BFLOAT16] * (len(precisions) > 1)
        return group + [
            Case(
                framework="pytorch",
                mode="compiled" if compiled else "eager",
                precision=kind,
                build=_with(theirs, mode=Mode(compiled, kind == BFLOAT16)),
                skipped=left_out if compiled else "",
                **facts,
            )
            for compiled in (False, True)
            for kind in kinds
        ]

    def peer(self, name: str) -> Callable[..., Any] | None:
        """Returns a function of `jaxlabs.peers.torch_work`, or None without PyTorch."""
        if not self.has_pytorch:
            return None
        from jaxlabs.peers import torch_work

        return getattr(torch_work, name)


def _with(function: Callable[..., Any], **arguments: Any) -> functools.partial:
    return functools.partial(function, **arguments)


def bound(function: Callable[..., Any] | None, *arguments: Any) -> functools.partial | None:
    """Returns the function with its first arguments, or None where there is none."""
    return None if function is None else functools.partial(function, *arguments)


def changed(config: RunConfig, bench: Bench, values: Mapping[str, Any]) -> RunConfig:
    """Returns a lab's settings on the bench's platform, with other values for some."""
    return type(config).from_flat(config.flat() | {"platform": bench.platform} | dict(values))


def reduction(size: Mapping[str, Any]) -> str:
    """Returns in words what was made smaller."""
    told = ", ".join(f"{name} {value}" for name, value in size.items())
    return f" (reduced: {told})" if size else ""


def characters() -> dict[str, Any]:
    """Returns a vocabulary of 65 characters, as tiny Shakespeare has."""
    return CharTokenizer("".join(["\n", *map(chr, range(32, 96))])).to_json()


def word_list(config: RunConfig) -> dict[str, Any]:
    """Returns a vocabulary as large as the model's."""
    count = config.model.vocabulary_size
    words = tuple(sorted([".", *(f"word{number}" for number in range(count - 3))]))
    return WordTokenizer(words).to_json()


def size_of(vocabulary: Mapping[str, Any]) -> int:
    """Returns the number of tokens of a vocabulary."""
    kind = {"characters": CharTokenizer, "words": WordTokenizer}[vocabulary["kind"]]
    return kind.from_json(vocabulary).vocabulary_size
