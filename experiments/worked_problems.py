"""Pen-and-paper problems of deep learning, each computed by this project and by a closed form.

Attention by hand, momentum, a two-step network, batch normalization, InfoNCE and SigLIP, the
softmax, Bayes' rule and the ELBO; marks where the write-up slips. Nothing is downloaded.

Source    an unpublished homework of a deep-learning course; Polyak 1964 (the best momentum)
Command   python -m experiments.worked_problems --platform=cpu
Expect    15 seconds of one core; 246 numbers; 50 marks, which are 18 errors of the write-up; ours
          and exact agree to 1e-8, and all but what a search and a repeated eigenvalue give to
          1e-12
"""

from jaxlabs import command
from jaxlabs.analysis.worked_problems import (
    attention,
    contrastive,
    normalization,
    optimization,
    probability,
    rows,
)
from jaxlabs.lab import Study, StudyResult
from jaxlabs.published.worked_problems import STATEMENTS
from jaxlabs.run_folder import RunFolder
from jaxlabs.training.run_config import CommonConfig

THEMES = (attention, optimization, normalization, contrastive, probability)


def measure(config: CommonConfig, folder: RunFolder) -> StudyResult:
    """Solves all problems, and writes what the report draws."""
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
)

if __name__ == "__main__":
    command.main(STUDY)
