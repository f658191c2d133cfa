"""Checks this machine: packages, devices, memory, disk, data sets and environment variables.

Each line is a fact (`ok`), something to know (`note`), or a problem that stops every run (`FAIL`),
with what to do below it. The exit status is 1 if there is such a problem, else 0.
"""

import argparse
import dataclasses
import importlib.metadata
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import psutil
from packaging.requirements import Requirement

import jaxlabs
from jaxlabs.config import UserError
from jaxlabs.data import sources

OK, NOTE, FAIL = "ok", "note", "FAIL"

MIN_MEMORY, MIN_DISK = 2e9, 2e9
"""Bytes below which a line is a note: a lab takes about 1 GB of each."""

FULL_DISK = 2**20
"""Free bytes below which every run stops, `jaxlabs.training.checkpoints.SPARE_BYTES`."""

SHOWN = ("jax", "jaxlib", "flax", "optax", "orbax-checkpoint", "numpy")
"""Packages whose versions are shown."""

CUDA_13_DRIVER = 580
"""The first driver of NVIDIA that runs CUDA 13."""


@dataclasses.dataclass(frozen=True)
class Finding:
    """One line of the output."""

    subject: str
    text: str
    level: str = OK
    remedy: str = ""  #: what to type or to do

    def __str__(self) -> str:
        lines = [f"{self.level:4}  {self.subject:<17} {self.text}"]
        return "\n".join([*lines, *([f"{'':24}-> {self.remedy}"] if self.remedy else [])])


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """Adds the arguments of the command: it has none."""


def run(options: argparse.Namespace) -> int:
    """Prints the findings as they are made, and returns the exit status."""
    failures = 0
    for finding in findings():
        print(finding, flush=True)
        failures += finding.level == FAIL
    print()
    print(f"{failures} problems stop runs" if failures != 1 else "1 problem stops runs")
    return int(failures > 0)


def findings() -> Iterator[Finding]:
    """Yields all findings; without a working JAX, those that need none."""
    yield Finding("python", f"{platform.python_version()}, {sys.executable}")
    yield Finding("platform", f"{platform.platform()}, {platform.machine()}")
    yield from packages()
    yield from memory()
    yield from folders()
    broken = list(importing_jax())
    yield from broken
    if broken:
        return
    try:
        # Imported only now: it imports JAX.
        from jaxlabs.runner import machine
    except ImportError as error:
        remedy = "pip install jaxlabs, or in a checkout pip install -e ."
        yield Finding("packages", str(error), FAIL, remedy)
        return
    yield from machine.findings(nvidia_driver())


def packages() -> Iterator[Finding]:
    """Yields the versions, and the packages that are missing or too old or new."""
    yield Finding("jaxlabs", jaxlabs.__version__)
    found = {name: _version(name) for name in SHOWN}
    yield Finding("packages", ", ".join(f"{name} {version}" for name, version in found.items()))
    try:
        lines = importlib.metadata.requires("jaxlabs")
    except importlib.metadata.PackageNotFoundError:
        yield Finding("jaxlabs", "used without being installed", NOTE, "pip install -e .")
        return
    for requirement in map(Requirement, lines):
        if requirement.marker is not None and not requirement.marker.evaluate({"extra": ""}):
            continue
        version = _version(requirement.name)
        if version == MISSING or not requirement.specifier.contains(version, prereleases=True):
            wanted = f"{requirement.name}{requirement.specifier}"
            text = f"{version}; {wanted} is needed"
            yield Finding(requirement.name, text, FAIL, f"pip install '{wanted}'")


MISSING = "missing"


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return MISSING


def importing_jax() -> Iterator[Finding]:
    """Yields the reason if JAX cannot be imported: it is missing, or does not fit jaxlib."""
    try:
        import jax  # noqa: F401
    except Exception as error:  # an old jaxlib raises RuntimeError
        version = _version("jax")
        pin = "" if version == MISSING else f"=={version}"
        reason = " ".join(str(error).split())
        yield Finding("jax", reason, FAIL, f"pip install jax{pin} jaxlib{pin}")


def memory() -> Iterator[Finding]:
    """Yields the memory of the machine."""
    found = psutil.virtual_memory()
    text = f"{_gb(found.total)}, {_gb(found.available)} available"
    if found.available < MIN_MEMORY:
        yield Finding("memory", text, NOTE, "close other programs, or give a smaller --batch_size")
    else:
        yield Finding("memory", text)


def folders() -> Iterator[Finding]:
    """Yields free space and write access of the default run folder and of the data folder."""
    runs = Path("runs").absolute()
    yield _folder("runs", runs, FAIL, "give --workdir=FOLDER, or start in another folder")
    try:
        data = sources.default_data_dir()
    except UserError as error:
        yield Finding("data", str(error), NOTE, "set JAXLABS_DATA_DIR to a folder")
        return
    yield _folder("data", data, NOTE, "set JAXLABS_DATA_DIR to a folder for downloads")


def _folder(subject: str, path: Path, level: str, remedy: str) -> Finding:
    """Returns the line of a folder; `level` is that of one in which nothing can be written."""
    existing = next(parent for parent in [path, *path.parents] if parent.exists())
    try:
        tempfile.TemporaryFile(dir=existing).close()
        free = shutil.disk_usage(existing).free
    except OSError as error:
        return Finding(subject, f"{path}: cannot be written ({error.strerror})", level, remedy)
    if free < MIN_DISK:
        text = f"{path}: {_gb(free)} free"
        return Finding(subject, text, level if free < FULL_DISK else NOTE, "free some space")
    return Finding(subject, f"{path}: {_gb(free)} free")


def nvidia_driver() -> str | None:
    """Returns the version of NVIDIA's driver, perhaps "[N/A]"; None without a GPU of NVIDIA."""
    query = ["nvidia-smi", "--query-gpu=driver_version", "--format=csv,noheader"]
    try:
        result = subprocess.run(query, capture_output=True, text=True, timeout=10, check=True)
    except (OSError, subprocess.SubprocessError):
        return None
    return next(iter(result.stdout.splitlines()), None)


def _gb(size: float) -> str:
    return f"{size / 1e9:.1f} GB"
