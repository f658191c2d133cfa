"""How many tokens of a long text an evaluation during training reads.

A part of a text up to `windows.MAX_EVAL_TOKENS` is evaluated as a whole. Of a longer one an
evaluation reads so many tokens that all evaluations together cost about a tenth of the training's
floating-point operations. Only counts of tokens decide, never a clock.
"""

from collections.abc import Mapping

import numpy as np

from jaxlabs.data.batches import Examples
from jaxlabs.data.dataset import DataModule
from jaxlabs.data.windows import MAX_EVAL_TOKENS
from jaxlabs.training.run_config import RunConfig

SETTING = "tokens_per_evaluation"
"""Name in `tuned` of config.json, which a resumed run reads."""

PASSES = 3
"""Cost of a token in training over that in evaluation: the backward pass is two forward ones."""


def tokens_per_evaluation(config: RunConfig, data: DataModule) -> int | None:
    """Returns the maximum number of tokens of an evaluation during training; None: all.

    With n = 1 + ceil(steps / eval_every) evaluations it is a tenth of `PASSES * tokens trained on /
    n`, and at least one batch of windows.

    Args:
      config: the run's settings.
      data: the data of the run.
    """
    parts = [name for name in data.eval_sets if name in data.text_tokens]
    if not any(_is_long(data, name) for name in parts):
        return None
    context = data.train.context_length
    evaluations = 1 + -(-config.steps // config.eval_every)
    trained = config.steps * config.batch_size * context
    budget = max(PASSES * trained // (10 * evaluations), config.eval_batch_size * context)
    return min(budget, 2**31 - 1)


def _is_long(data: DataModule, name: str) -> bool:
    """Returns whether an evaluation set is of a long text, or leaves some of a shorter one out."""
    whole = data.text_tokens[name]
    return whole > MAX_EVAL_TOKENS or read_tokens(data.eval_sets[name]) < whole


def scored_tokens(examples: Examples) -> int:
    """Returns the number of targets that a set scores."""
    return int(np.count_nonzero(examples.arrays["weights"]))


def read_tokens(examples: Examples) -> int:
    """Returns the number of tokens that an evaluation of a set reads, scored or not."""
    return examples.arrays["weights"].size


def subsample(
    sets: Mapping[str, Examples], monitor: str, tokens: int | None
) -> dict[str, Examples]:
    """Returns evenly spaced windows of each set, of at most `tokens` tokens together.

    The monitored set gets half of the tokens and what the others leave over. Each set keeps at
    least one window.

    Args:
      sets: the evaluation sets, windows of a text.
      monitor: name of the monitored one.
      tokens: the number of tokens; None: all windows.
    """
    if tokens is None:
        return dict(sets)
    sizes = {name: read_tokens(examples) for name, examples in sets.items()}
    others = [name for name in sets if name != monitor]
    counts = {name: min(sizes[name], tokens // (2 * len(others))) for name in others}
    counts[monitor] = tokens - sum(counts.values())
    return {name: _evenly(examples, counts[name]) for name, examples in sets.items()}


def _evenly(examples: Examples, tokens: int) -> Examples:
    """Returns as many evenly spaced windows as `tokens` hold, at least one."""
    count, length = examples.arrays["weights"].shape
    kept = min(count, max(1, tokens // length))
    if kept == count:
        return examples
    return examples.take(np.arange(kept) * (count - 1) // max(kept - 1, 1))
