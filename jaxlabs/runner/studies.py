"""Running a study: a command that measures something without the training loop."""

import sys
import time

from jaxlabs.report.page import write_report
from jaxlabs.runner.lab import Invocation
from jaxlabs.runner.opening import open_run
from jaxlabs.runner.summary import summarize_study
from jaxlabs.training import devices


def measure(request: Invocation) -> None:
    """Runs the study, unless its run folder is already complete."""
    config = request.config()
    devices.start(config.platform)
    data = request.lab.load_data(config) if request.lab.load_data else None
    with open_run(request, config, data) as folder:
        if folder.is_complete():
            print(f"run already complete; report: {write_report(folder, request.lab)}")
            return
        if data is not None and data.warning:
            print(data.warning, file=sys.stderr)
        start = time.perf_counter()
        result = request.lab.measure(config, folder, *([] if data is None else [data]))
        summary = summarize_study(request, config, result, time.perf_counter() - start)
        folder.write_sample("final", result.text)
        folder.write_summary(summary)
        print(result.text)
        print(f"report: {write_report(folder, request.lab)}")
