"""Runs every lab, each as its own command would, and sets what they found in one table.

Every lab gets the preset that is asked for, or its default where it has none of that name, and a
folder of its own; `ddpm` comes after the classifier that judges its samples. The page and
results.md have a row for every published figure, and for each lab's main ones. Stopped at any time,
the same command goes on; what has ended is not run again.

Source    the documents that each lab names
Command   python -m experiments.reproduce --preset=quick --platform=cpu --labs=worked_problems,gpt
Expect    as long as the labs take one after another; each one's own header says how long
"""

import importlib
import pkgutil
from collections.abc import Iterator

import experiments
from jaxlabs import command
from jaxlabs.lab import Experiment, Suite
from jaxlabs.training.run_config import SuiteConfig

NO_LABS = ("benchmark", "reproduce")
"""Commands that tell nothing of a model; the first one's times want a machine to themselves."""

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
"""The figures that sum a lab up; of others the first few are shown."""


INPUTS = {"ddpm": ("fid_classifier", "mnist_classifier")}
"""Labs that another one's run goes into, by which flag."""


def labs() -> Iterator[tuple[str, Experiment]]:
    """Yields every command of this folder that trains or measures, by name."""
    for found in pkgutil.iter_modules(experiments.__path__):
        if found.name not in NO_LABS:
            module = importlib.import_module(f"experiments.{found.name}")
            lab = getattr(module, "LAB", None) or module.STUDY
            yield lab.name, lab


def collection() -> Suite:
    """Returns the command; made when asked for, since it imports all others."""
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
    command.main(collection())
