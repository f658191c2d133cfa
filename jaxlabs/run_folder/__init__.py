"""The run folder, which training writes and the report reads.

    config.json      settings, versions, device, data set
    metrics.jsonl    one object per logged event: step, split, metrics
    summary.json     final metrics
    checkpoints/     Orbax checkpoints, one folder per step
    arrays/*.npz     results of the analysis (attention maps, position tables, ...)
    samples/*        samples; one of several texts is a .txt for reading and a .json of its texts
    figures/*.png    figures of the report
    report.html      the report
    runs/            run folders of a sweep or a suite
    results.md       table of all results of a suite; results.json: its rows

Every file is replaced atomically, so a reader never sees a partial file. Nothing is read or written
through a link out of the folder, except that `checkpoints` and `runs` may be links to folders on
another disk.
"""

from jaxlabs.run_folder.folder import WRITTEN, RunFolder, Sample, unwritable

__all__ = ["WRITTEN", "RunFolder", "Sample", "unwritable"]
