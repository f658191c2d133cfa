"""jaxlabs: reference implementations of course-scale deep learning in JAX and Flax.

The public API is the names of `__all__`. Each is imported when it is first used, so that
`import jaxlabs` takes milliseconds and does not import jax.
"""

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from jaxlabs import keys as keys
    from jaxlabs.api import Run as Run
    from jaxlabs.api import load_run as load_run
    from jaxlabs.api import train as train
    from jaxlabs.config import Config as Config
    from jaxlabs.config import UserError as UserError
    from jaxlabs.config import group as group
    from jaxlabs.config import setting as setting
    from jaxlabs.data.batches import Examples as Examples
    from jaxlabs.data.dataset import DataModule as DataModule
    from jaxlabs.data.host import HostExamples as HostExamples
    from jaxlabs.losses.loss_output import LossOutput as LossOutput
    from jaxlabs.published import Published as Published
    from jaxlabs.published import PublishedCurve as PublishedCurve
    from jaxlabs.run_folder.files import Texts as Texts
    from jaxlabs.runner.check import check as check
    from jaxlabs.runner.check_result import CheckResult as CheckResult
    from jaxlabs.runner.compare import Comparison as Comparison
    from jaxlabs.runner.compare import compare as compare
    from jaxlabs.runner.lab import Lab as Lab
    from jaxlabs.runner.lab import Study as Study
    from jaxlabs.runner.lab import StudyData as StudyData
    from jaxlabs.runner.lab import StudyResult as StudyResult
    from jaxlabs.runner.sweep_plan import Sweep as Sweep
    from jaxlabs.training.param_labels import label_params as label_params
    from jaxlabs.training.run_config import RunConfig as RunConfig
    from jaxlabs.training.state import TrainState as TrainState
    from jaxlabs.training.state import create_state as create_state
    from jaxlabs.training.step import build_train_step as build_train_step
    from jaxlabs.training.task import Task as Task

__version__ = "0.1.0"

_NAMES = {
    "jaxlabs.api": ["Run", "load_run", "train"],
    "jaxlabs.config": ["Config", "UserError", "group", "setting"],
    "jaxlabs.data.batches": ["Examples"],
    "jaxlabs.data.dataset": ["DataModule"],
    "jaxlabs.data.host": ["HostExamples"],
    "jaxlabs.keys": ["keys"],
    "jaxlabs.losses.loss_output": ["LossOutput"],
    "jaxlabs.published": ["Published", "PublishedCurve"],
    "jaxlabs.run_folder.files": ["Texts"],
    "jaxlabs.runner.check": ["check"],
    "jaxlabs.runner.check_result": ["CheckResult"],
    "jaxlabs.runner.compare": ["Comparison", "compare"],
    "jaxlabs.runner.lab": ["Lab", "Study", "StudyData", "StudyResult"],
    "jaxlabs.runner.sweep_plan": ["Sweep"],
    "jaxlabs.training.param_labels": ["label_params"],
    "jaxlabs.training.run_config": ["RunConfig"],
    "jaxlabs.training.state": ["TrainState", "create_state"],
    "jaxlabs.training.step": ["build_train_step"],
    "jaxlabs.training.task": ["Task"],
}
_MODULES = {name: module for module, names in _NAMES.items() for name in names}

__all__ = list(_MODULES)


def __getattr__(name: str) -> Any:
    if name not in _MODULES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    module = importlib.import_module(_MODULES[name])
    value = getattr(module, name, module)  # `keys` is a module
    globals()[name] = value  # found without this function from now on
    return value


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
