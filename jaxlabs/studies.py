"""Carrying out a study: a command that measures something without the training loop."""

import sys
import time

from jaxlabs.lab import Invocation
from jaxlabs.opening import open_run
from jaxlabs.report.page import write_report
from jaxlabs.summary import summarize_study
from jaxlabs.training import devices


def measure(request: Invocation) -> None:
    """Measures what the study is about, unless its folder says that this has been done."""
    config = request.config()
    devices.start(config.platform)
    data = request.lab.load_data(config) if request.lab.load_data else None
    with open_run(request, config, data) as folder:
        if folder.is_complete():
            print(f"all of it has been measured; report: {write_report(folder)}")
            return
        if data is not None and data.notice:
            print(data.notice, file=sys.stderr)
        start = time.perf_counter()
        findings = request.lab.measure(config, folder, *([] if data is None else [data]))
        summary = summarize_study(request, config, findings, time.perf_counter() - start)
        folder.write_sample("final", findings.text)
        folder.write_summary(summary)
        print(findings.text)
        print(f"report: {write_report(folder)}")
