"""The start of a command: the time from its process to its first training step."""

import atexit
import os
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from jaxlabs.benchmark.worker import Work


def start(lab: str, preset: str, platform: str, data_dir: str | None, cached: bool) -> Work:
    """Starts the command of a lab, waits until it has logged its first step, and stops it.

    Args:
      lab: name of a built-in lab.
      preset: its preset.
      platform: the JAX platform.
      data_dir: folder of the data sets, which should hold the lab's; None: the default one.
      cached: whether there is a compilation cache; the first call fills it.
    """
    scratch = Path(tempfile.mkdtemp(prefix="jaxlabs-start-"))
    atexit.register(shutil.rmtree, scratch, ignore_errors=True)
    folder = scratch / "run"
    command = [sys.executable, "-m", "jaxlabs", lab, f"--preset={preset}", f"--platform={platform}"]
    command += ["--log_every=1", f"--workdir={folder}"]
    command += [] if data_dir is None else [f"--data_dir={data_dir}"]
    cache = {
        "JAX_ENABLE_COMPILATION_CACHE": str(cached).lower(),
        "JAX_COMPILATION_CACHE_DIR": str(scratch / "compiled"),
        "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0",
    }

    def run() -> None:
        shutil.rmtree(folder, ignore_errors=True)
        with open(scratch / "log", "w+", encoding="utf-8") as log:
            options = {"env": os.environ | cache, "stdout": log, "stderr": log}
            with subprocess.Popen(command, **options) as process:
                try:
                    while not _has_stepped(folder / "metrics.jsonl"):
                        if process.poll() is not None:
                            log.seek(0)
                            raise RuntimeError((log.read().splitlines() or ["no output"])[-1])
                        time.sleep(0.01)
                finally:
                    process.kill()

    def end() -> dict[str, float]:
        shutil.rmtree(scratch, ignore_errors=True)
        return {}

    return Work(run, extra_metrics=end)


def _has_stepped(metrics: Path) -> bool:
    return metrics.exists() and '"split": "train"' in metrics.read_text(encoding="utf-8")
