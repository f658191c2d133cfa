"""The sections of the page, each made from what the run folder holds, or empty."""

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from jaxlabs.report import html
from jaxlabs.report.curves import Rows, humanize, series
from jaxlabs.report.damaged_files import DamagedFiles
from jaxlabs.report.formatting import format_value
from jaxlabs.run_folder import RunFolder

Facts = Mapping[str, Any]

# What a run costs: key of the summary -> (name, unit).
COSTS = {
    "seconds": ("training time", "seconds"),
    "compile_seconds": ("compilation", "seconds"),
    "evaluation_seconds": ("evaluation", "seconds"),
    "steps_per_second": ("steps per second", ""),
    "peak_memory_bytes": ("peak memory", "bytes"),
}


# Where the data set that was asked for stands, and the one that was trained on.
DATASETS = (("settings", "dataset"), ("dataset", "name"))


def header(config: Facts, summary: Facts, rows: Rows) -> str:
    """Returns the title, one sentence and the large figures."""
    steps = max((row["step"] for row in rows), default=0)
    planned = config.get("settings", {}).get("steps", steps)
    dataset = config.get("dataset", {}).get("name")
    told = f"Trained on {dataset}. " if dataset else config.get("question", "")
    if reason := config.get("not_comparable_reason"):
        told += f"Its figures are not comparable with published ones: {reason}. "
    if not summary:
        told += f"This run has not ended: {steps:,} of {planned:,} steps are logged."
    split, loss = monitored_loss(summary, rows)
    tiles = [
        (f"loss, {humanize(split)}", loss, config.get("loss_unit", "nats")),
        ("parameters", summary.get("parameters"), ""),
        ("steps", summary.get("steps"), ""),
        ("runs", len(summary["runs"]) if "runs" in summary else None, ""),
        ("training time" if rows else "time", summary.get("seconds"), "seconds"),
    ]
    shown = [(name, format_value(value, unit)) for name, value, unit in tiles if value is not None]
    return (
        f'<header><h1>{html.text(title(config))}</h1><p class="lede">{html.text(told)}</p>'
        f"{html.stat_tiles(shown)}</header>"
    )


def title(config: Facts) -> str:
    """Returns the page's title: the experiment, its preset, and the sweep if it is one."""
    return " · ".join(config[key] for key in ("experiment", "preset", "sweep") if key in config)


def monitored_loss(summary: Facts, rows: Rows) -> tuple[str, float | None]:
    """Returns (split, loss): the first evaluated split and its final, or else last logged, loss."""
    for split in (row["split"] for row in rows if row["split"] != "train"):
        logged = series(rows, split, "loss")[1]
        last = float(logged[-1]) if logged.size else None
        return split, summary.get("metrics", {}).get(f"{split}_loss", last)
    return "train", None


def against_published(compared: Sequence[Facts]) -> str:
    """Returns the table of published figures beside ours."""
    rows = [
        [
            html.text(row["quantity"]),
            html.text(format_value(row["published"], row["unit"], as_stated=True)),
            html.text(format_value(row["ours"], row["unit"])),
            html.text(row["source"]),
            html.note(row["note"])
            if row["comparable"]
            else f'<p class="note"><strong class="caveat">Not comparable:</strong> '
            f"{html.text(row['not_comparable_reason'])}</p>",
        ]
        for row in compared
    ]
    columns = ["quantity", "published", "ours", "source", "how measured"]
    table = html.table(columns, rows, numbers=("published", "ours"), cards=True)
    return html.section("published", "Against the published figures", table)


def samples(folder: RunFolder, damaged: DamagedFiles, *pictures: str) -> str:
    """Returns samples: pictures of them, the final one as text, and the earlier ones folded.

    Those that cannot be read are left out and noted.
    """
    final, parts, folds = folder.samples / "final.txt", list(pictures), []
    if final.exists():
        with damaged.skip_if_damaged("samples/final.txt"):
            label = "Sample of the trained model"
            parts.append(html.preformatted(folder.read_text(final), label=label))
    for step, path in folder.step_samples("txt").items():
        with damaged.skip_if_damaged(f"samples/{path.name}"):
            body = html.preformatted(folder.read_text(path), label=f"Sample at step {step}")
            folds.append(html.details(f"step {step:,}", body, group="samples"))
    heading = ["<h3>As training went on</h3>"] if folds else []
    return html.section("samples", "Samples", *parts, *heading, *folds)


def damaged(reasons: Mapping[str, str]) -> str:
    """Returns what is left out of the page, and why, by file."""
    notes = [html.note(f"{file}: {reason}") for file, reason in reasons.items()]
    return html.section("damaged", "Left out: damaged files", *notes)


def groups(summary: Facts) -> str:
    """Returns the table of a sweep: means over seeds, and paired differences from the first row."""
    found = summary.get("groups", [])
    if not found:
        return ""
    names = list(found[0]["metrics"])
    columns = ["settings", "seeds", *(humanize(name) for name in names)]
    rows = [
        [
            html.text(", ".join(f"{humanize(k)} {_plain(v)}" for k, v in group["settings"].items()))
            or "as the preset",
            html.text(len(group["seeds"])),
            *(_mean(group["metrics"][name]) for name in names),
        ]
        for group in found
    ]
    told = (
        "Means over the seeds ± one standard deviation of a single run. Below, where there is more "
        "than one seed: the mean difference from the first row, seed by seed, with Student's 95 % "
        "interval; one that holds 0 is no difference shown."
    )
    table = html.table(columns, rows, numbers=columns[1:], cards=True)
    return html.section("groups", "What the runs say together", table, html.note(told))


def _mean(one: Facts) -> str:
    cell = html.text(format_value(one["mean"]))
    if one["deviation"] is not None:
        cell += f" ± {html.text(format_value(one['deviation']))}"
    if one.get("difference") is not None:
        low, high = format_value(one["low"]), format_value(one["high"])
        cell += html.note(f"{format_value(one['difference'])} [{low}, {high}]")
    return cell


def _plain(value: Any) -> str:
    return "none" if value is None else str(value)


def final_metrics(summary: Facts, rows: Rows, unit: str = "nats") -> str:
    """Returns all final figures, and the losses of models without training beside ours."""
    figures = [
        [html.text(humanize(name)), html.text(format_value(value))]
        for name, value in summary.get("metrics", {}).items()
    ]
    figures += [
        [html.text(name), html.text(format_value(summary[key], unit))]
        for key, (name, unit) in COSTS.items()
        if summary.get(key) is not None
    ]
    tables = [html.table(["metric", "value"], figures, numbers=("value",))]
    baselines = summary.get("baselines", {})
    losses = {name: value for name, value in baselines.items() if "accuracy" not in name}
    split, ours = monitored_loss(summary, rows)
    if losses and ours is not None:
        name = f"this model, {humanize(split)}"
        ranked = sorted((losses | {name: ours}).items(), key=lambda item: -item[1])
        cells = [[html.text(humanize(key)), html.text(format_value(value))] for key, value in ranked]
        marked = [key == name for key, _ in ranked]
        columns = ["model", f"loss [{unit}]"]
        tables += [
            "<h3>Beside models without training</h3>",
            html.table(columns, cells, numbers=columns[1:], marked=marked),
        ]
    return html.section("figures", "Final figures", *tables)


def settings(config: Facts) -> str:
    """Returns all settings; those that differ from the preset stand out."""
    values, preset = config.get("settings", {}), config.get("preset_settings", {})
    changed = [bool(preset) and preset.get(name) != value for name, value in values.items()]
    rows = [
        [f"<code>{html.text(name)}</code>", _code(value)]
        + ([_code(preset.get(name)) if differs else "same"] if preset else [])
        for (name, value), differs in zip(values.items(), changed, strict=True)
    ]
    columns = ["setting", "value", *(["in the preset"] if preset else [])]
    table = html.table(columns, rows, marked=changed)
    if not table:
        return ""
    told = f"{sum(changed)} of {len(rows)} differ from the preset." if preset else ""
    fold = html.details(f"All {len(rows)} settings", table, group="settings")
    return html.section("settings", "Settings", html.note(told) if told else "", fold)


def environment(config: Facts, summary: Facts) -> str:
    """Returns versions, device and data, as the run recorded them."""
    recorded = {
        "device": config.get("device", {}),
        "dataset": config.get("dataset", {}),
        "versions": config.get("versions", {}),
        "environment": summary.get("environment", {}),
    }
    rows = [[html.text(name), _code(value)] for name, value in _flat(recorded)]
    return html.section("environment", "Environment", html.table(["what", "value"], rows))


def reproduce(config: Facts, summary: Facts) -> str:
    """Returns the command that made this run, and what to recognize its result by."""
    command, digest = config.get("command"), summary.get("parameters_sha256")
    asked, used = (config.get(key, {}).get(name) for key, name in DATASETS)
    if command and used and asked != used:
        command += f"  # trained on {used}, as {asked} was not found here"
    told = (
        "The same versions on the same kind of machine end with the same parameters, to the bit; "
        f"their SHA-256 is {digest}."
    )
    return html.section(
        "reproduce",
        "Run it again",
        html.preformatted(command, label="Command") if command else "",
        html.note(told) if digest else "",
    )


def _code(value: Any) -> str:
    return f"<code>{html.text('none' if value is None else value)}</code>"


def _flat(facts: Facts, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in facts.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}: ")
        else:
            yield f"{prefix}{humanize(name)}", value
