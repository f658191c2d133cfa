"""Worked problems of deep learning, each computed by this project and in closed form.

Attention, momentum, a two-step network, batch normalization, InfoNCE and SigLIP, the softmax,
Bayes' rule and the ELBO, with the errata of the write-up. Nothing is downloaded.

Source    an unpublished homework of a deep-learning course; Polyak 1964 (the optimal momentum)
Command   python -m experiments.worked_problems --platform=cpu
Expect    15 seconds of one core; 246 values, 44 of them wrong in the write-up, and 6 wrong
          statements, by 18 errors; computed and exact values agree to 1e-8, and to 1e-12 except for
          a search and a repeated eigenvalue
"""

from jaxlabs.labs.worked_problems import (
    attention,
    contrastive,
    normalization,
    optimization,
    plots,
    probability,
    rows,
)
from jaxlabs.labs.worked_problems.published import STATEMENTS
from jaxlabs.run_folder import RunFolder
from jaxlabs.runner.lab import Study, StudyResult
from jaxlabs.training.run_config import CommonConfig

THEMES = (attention, optimization, normalization, contrastive, probability)


def measure(config: CommonConfig, folder: RunFolder) -> StudyResult:
    """Solves all problems; writes the arrays of the figures."""
    solved = [row for theme in THEMES for row in theme.problems()]
    folder.write_arrays("worked_scale", **attention.arrays(config.seed))
    folder.write_arrays("worked_ravine", **optimization.arrays())
    folder.write_arrays("worked_batch_norm", **normalization.arrays())
    folder.write_arrays("worked_temperature", **contrastive.arrays())
    problems = [row.entry() for row in solved]
    statements = [statement._asdict() for statement in STATEMENTS]
    return StudyResult(
        rows.metrics(solved, STATEMENTS),
        rows.format_table(solved, STATEMENTS),
        {"problems": problems, "statements": statements},
    )


STUDY = Study(
    name="worked_problems",
    description=__doc__,
    config_class=CommonConfig,
    presets={"quick": {}},
    measure=measure,
    plots={
        "worked_scale": plots.scale,
        "worked_ravine": plots.ravine,
        "worked_batch_norm": plots.batch_norm,
        "worked_temperature": plots.temperature,
    },
    main_metrics=("values", "wrong_values_and_statements", "errors", "largest_relative_difference"),
)
