"""Runs every lab and collects the results in one table.

Every lab runs with the given preset, or with its default if it has no preset of that name, in its
own folder; `ddpm` runs after the classifier that evaluates its samples. The page and results.md
have a row for every published result and for the main metrics of each lab. Rerun an interrupted
command to resume it; finished labs are not run again.

Source    the documents that each lab names
Command   python -m experiments.reproduce --preset=quick --platform=cpu --labs=worked_problems,gpt
Expect    the total time of the labs, which their own headers state
"""

import importlib
import pkgutil
from collections.abc import Iterator

import experiments
from jaxlabs import command
from jaxlabs.lab import Experiment, Suite
from jaxlabs.training.run_config import SuiteConfig

NO_LABS = ("benchmark", "reproduce")
"""Commands without a model; the benchmark also needs an idle machine."""

MAIN = {
    "attention": (
        *("final_loss_residual_and_layernorm_16_blocks", "final_loss_neither_16_blocks"),
        *("lookup_loss_of_1_heads", "lookup_loss_of_4_heads"),
    ),
    "autoencoder": ("test_loss", "bound_64", "active_units"),
    "char_rnn": ("held_out_loss", "held_out_windows_loss"),
    "contrastive": (
        *("zero_shot_accuracy", "image_to_text_recall_at_1", "text_to_image_recall_at_1"),
    ),
    "ddpm": ("dpm_solver_20_fid", "dpm_solver_20_prediction_entropy", "bits_per_dimension"),
    "gpt": ("held_out_loss", "sliding_window_loss"),
    "mnist_classifier": ("test_accuracy", "errors"),
    "normalization": (
        *("best_rate_none", "best_rate_batch", "test_accuracy_none", "test_accuracy_batch"),
    ),
    "rnn_dynamics": (
        *("gradient_share_after_rnn_200_steps", "gradient_share_after_lstm_200_steps"),
    ),
    "sequence_patterns": ("test_of_optimum", "long_of_optimum"),
    "sparse_autoencoder": ("training_patches_loss", "gabor_variance_explained"),
    "speech_classifier": ("test_accuracy", "test_unseen_accuracy"),
    "speech_lm": ("obama_perplexity", "wbush_perplexity", "hbush_perplexity"),
    "worked_problems": ("numbers", "wrong_values", "errors", "largest_relative_difference"),
}
"""Main metrics by lab; other labs show their first metrics."""

INPUTS = {"ddpm": ("fid_classifier", "mnist_classifier")}
"""Labs that need the run folder of another lab: flag and lab."""


def labs() -> Iterator[tuple[str, Experiment]]:
    """Yields every lab and study of this package, by name."""
    for found in pkgutil.iter_modules(experiments.__path__):
        if found.name not in NO_LABS:
            module = importlib.import_module(f"experiments.{found.name}")
            lab = getattr(module, "LAB", None) or module.STUDY
            yield lab.name, lab


def suite() -> Suite:
    """Returns the command; a function, since it imports all others."""
    return Suite(
        name="reproduce",
        description=__doc__,
        config_class=SuiteConfig,
        presets={"quick": {}, "reference": {}, "best": {}},
        labs=dict(labs()),
        main=MAIN,
        inputs=INPUTS,
    )


if __name__ == "__main__":
    command.main(suite())
