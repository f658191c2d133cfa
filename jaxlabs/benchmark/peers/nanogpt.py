"""nanoGPT's CPU recipe in PyTorch: a baseline on the same data, by training time.

    python -m jaxlabs.benchmark.peers.nanogpt --data=FILE --seconds=63

trains the model that the README of nanoGPT (github.com/karpathy/nanoGPT) recommends for a laptop's
CPU and prints the held-out loss against training time.
"""

import argparse
import dataclasses
import math
import time
from pathlib import Path

import numpy as np
import torch
from torch.nn import functional

from jaxlabs.benchmark.peers.torch_cases import parameter_groups
from jaxlabs.benchmark.peers.torch_models import GPT
from jaxlabs.config import UserError
from jaxlabs.data.tokenizers import CharTokenizer
from jaxlabs.data.windows import consecutive_windows, split_text
from jaxlabs.models.transformer_lm import TransformerLMConfig

CPU_RECIPE = TransformerLMConfig(
    vocab_size=65,
    context_length=64,
    embed_dim=128,
    num_layers=4,
    num_heads=4,
    mlp_dim=512,
    activation="gelu",
    positions="learned",
    bias=False,
    tie_embeddings=True,
    dropout=0.0,
)
"""nanoGPT's model for a MacBook: 0.80 M parameters with a vocabulary of 65."""

BATCH_SIZE, STEPS, WARMUP_STEPS = 12, 2000, 100
PEAK_RATE, FINAL_RATE = 1e-3, 1e-4


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """One point of the learning curve."""

    step: int  #: number of training steps
    seconds: float  #: wall-clock seconds of training, without evaluation and start-up
    held_out: float  #: mean loss over all held-out tokens, nats per character


def train_nanogpt(
    train_tokens: np.ndarray,
    held_out_tokens: np.ndarray,
    *,
    config: TransformerLMConfig = CPU_RECIPE,
    steps: int = STEPS,
    seconds: float | None = None,
    evaluate_every: int = 500,
    seed: int = 0,
) -> list[Evaluation]:
    """Trains nanoGPT's CPU recipe: AdamW, warm-up, cosine decay, 12 windows of 64 a step.

    Args:
      train_tokens: [length] integers.
      held_out_tokens: [length] integers, cut into consecutive windows for the held-out loss.
      steps: number of training steps, over which the learning rate decays.
      seconds: training time instead of `steps`; the learning rate decays with the elapsed time.
      evaluate_every: steps between evaluations; the last step is always evaluated.
    """
    torch.manual_seed(seed)
    gpt = GPT(config)
    optimizer = torch.optim.AdamW(parameter_groups(gpt, 0.1), lr=PEAK_RATE, betas=(0.9, 0.99))
    stream = torch.from_numpy(np.asarray(train_tokens, np.int64))
    offsets = torch.arange(config.context_length)[None, :]
    curve, elapsed, step = [], 0.0, 0

    def progress() -> float:
        return step / steps if seconds is None else elapsed / seconds

    while progress() < 1:
        start = time.perf_counter()
        for group in optimizer.param_groups:
            group["lr"] = learning_rate(step, progress())
        index = torch.randint(len(stream) - config.context_length, (BATCH_SIZE, 1)) + offsets
        logits = gpt(stream[index])
        loss = functional.cross_entropy(logits.flatten(0, 1), stream[index + 1].flatten())
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(gpt.parameters(), 1.0)
        optimizer.step()
        elapsed += time.perf_counter() - start
        step += 1
        if step % evaluate_every == 0 or progress() >= 1:
            held_out = held_out_loss(gpt, held_out_tokens, config.context_length)
            curve.append(Evaluation(step, elapsed, held_out))
    return curve


def learning_rate(step: int, progress: float) -> float:
    """Returns nanoGPT's learning rate: linear warm-up, then cosine decay to a tenth of the peak.

    nanoGPT's cosine decay starts at the end of warm-up; here it spans the whole run, so that it can
    follow the elapsed time. At step 100 of 2,000 the two differ by 0.6 %.

    Args:
      step: counted from 0.
      progress: completed fraction of the run, in [0, 1).
    """
    if step < WARMUP_STEPS:
        return PEAK_RATE * (step + 1) / (WARMUP_STEPS + 1)
    return FINAL_RATE + (PEAK_RATE - FINAL_RATE) * 0.5 * (1 + math.cos(math.pi * progress))


def held_out_loss(
    gpt: GPT, tokens: np.ndarray, context_length: int, batch_size: int = 128
) -> float:
    """Returns the mean loss in nats over consecutive windows, with every target once."""
    arrays = consecutive_windows(tokens, context_length).arrays
    total = 0.0
    gpt.eval()
    with torch.no_grad():
        for start in range(0, len(arrays["inputs"]), batch_size):
            inputs, targets, weights = (
                torch.from_numpy(arrays[name][start : start + batch_size])
                for name in ("inputs", "targets", "weights")
            )
            logits = gpt(inputs.long()).flatten(0, 1)
            losses = functional.cross_entropy(logits, targets.long().flatten(), reduction="none")
            total += float((losses * weights.flatten()).sum())
    gpt.train()
    return total / float(arrays["weights"].sum())


def main() -> None:
    """Trains the recipe on a text file and prints the learning curve."""
    description = "nanoGPT's CPU recipe in PyTorch, by training time"
    parser = argparse.ArgumentParser(description=description)
    parser.add_argument("--data", type=Path, required=True, help="a UTF-8 text file")
    parser.add_argument("--seconds", type=float, help="training time; default: --steps")
    parser.add_argument("--steps", type=int, default=STEPS, help=f"default {STEPS}")
    parser.add_argument("--evaluate_every", type=int, default=500, help="steps, default 500")
    parser.add_argument("--seed", type=int, default=0, help="default 0")
    options = vars(parser.parse_args())
    path = options.pop("data")
    try:
        text = path.read_text(encoding="utf-8")
        tokenizer = CharTokenizer.from_text(text)
        train, held_out = (tokenizer.encode(part) for part in split_text(text))
        config = dataclasses.replace(CPU_RECIPE, vocab_size=tokenizer.vocab.size)
        curve = train_nanogpt(train, held_out, config=config, **options)
    except (OSError, UnicodeDecodeError) as error:
        parser.error(f"--data: {path} cannot be read as UTF-8 text: {error}")
    except UserError as error:
        parser.error(str(error))
    for point in curve:
        print(f"step {point.step:5d}  {point.seconds:7.1f} s  held-out loss {point.held_out:.4f}")


if __name__ == "__main__":
    main()
