"""The sections of the page; each is empty if the run folder lacks its data."""

from collections.abc import Iterator, Mapping, Sequence
from types import MappingProxyType
from typing import Any

from jaxlabs.report import html
from jaxlabs.report.curves import Rows, humanize, loss_baselines, series
from jaxlabs.report.damaged_files import DamagedFiles
from jaxlabs.report.formatting import format_value, format_with_error
from jaxlabs.report.text_output import has_columns, text_output
from jaxlabs.run_folder import RunFolder

JsonObject = Mapping[str, Any]

# Key of the summary -> (name, unit).
COSTS = {
    "seconds": ("training time", "seconds"),
    "compile_seconds": ("compilation", "seconds"),
    "evaluation_seconds": ("evaluation", "seconds"),
    "steps_per_second": ("steps per second", ""),
    "peak_memory_bytes": ("peak memory", "bytes"),
}


def header(config: JsonObject, summary: JsonObject, rows: Rows) -> str:
    """Returns the title, a short description and the stat tiles."""
    steps = max((row["step"] for row in rows), default=0)
    planned = config.get("settings", {}).get("steps", steps)
    dataset = config.get("dataset", {}).get("name")
    text = f"Trained on {dataset}. " if dataset else config.get("question", "")
    if reason := config.get("not_comparable_reason"):
        text += f"Not comparable with published results: {reason}. "
    if not summary:
        text += f"Incomplete run: {steps:,} of {planned:,} steps are logged."
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
        f'<header><h1>{html.text(title(config))}</h1><p class="lede">{html.text(text)}</p>'
        f"{html.stat_tiles(shown)}</header>"
    )


def title(config: JsonObject) -> str:
    """Returns the page's title: experiment, preset and, if any, sweep."""
    return " · ".join(config[key] for key in ("experiment", "preset", "sweep") if key in config)


def monitored_loss(summary: JsonObject, rows: Rows) -> tuple[str, float | None]:
    """Returns (split, loss): the first evaluated split with its final or last logged loss."""
    for split in (row["split"] for row in rows if row["split"] != "train"):
        logged = series(rows, split, "loss")[1]
        last = float(logged[-1]) if logged.size else None
        return split, summary.get("metrics", {}).get(f"{split}_loss", last)
    return "train", None


def published_comparison(
    comparison: Sequence[JsonObject], metrics: Mapping[str, Any] = MappingProxyType({})
) -> str:
    """Returns the table of published results beside ours; `metrics` has the standard errors."""
    caveat = '<p class="note"><strong class="caveat">Not comparable:</strong> '
    rows = []
    for row in comparison:
        stated = format_value(row["published"], row["unit"], as_stated=True)
        error = metrics.get(f"{row['metric']}_stderr")
        ours = _with_error(row["ours"], error, row["unit"])
        note = f"{caveat}{html.text(row['not_comparable_reason'])}</p>"
        note = html.note(row["note"]) if row["comparable"] else note
        rows.append([*map(html.text, (row["quantity"], stated, ours, row["source"])), note])
    columns = ["quantity", "published", "ours", "source", "measurement"]
    table = html.table(columns, rows, numbers=("published", "ours"), cards=True)
    return html.section("published", "Comparison with published results", table)


def samples(folder: RunFolder, damaged: DamagedFiles, *figures: str) -> str:
    """Returns the samples: figures, the final text, and earlier texts in collapsible sections.

    Text with aligned columns in a folder without metrics.jsonl is the output of a study, see
    `text_output`. Damaged files are skipped and recorded.
    """
    final, parts, earlier = folder.samples / "final.txt", list(figures), []
    title = "Samples"
    if final.exists():
        with damaged.skip_if_damaged("samples/final.txt"):
            content = folder.read_text(final)
            if not folder.metrics.exists() and has_columns(content):
                title = "Samples" if any(figures) else "Text output"
                parts += text_output(content)
            else:
                parts.append(html.preformatted(content, label="Sample of the trained model"))
    for step, path in folder.step_samples("txt").items():
        with damaged.skip_if_damaged(f"samples/{path.name}"):
            body = html.preformatted(folder.read_text(path), label=f"Sample at step {step}")
            earlier.append(html.details(f"step {step:,}", body, group="samples"))
    heading = ["<h3>During training</h3>"] if earlier else []
    return html.section("samples", title, *parts, *heading, *earlier)


def damaged(reasons: Mapping[str, str]) -> str:
    """Returns the skipped files with the reasons."""
    notes = [html.note(f"{file}: {reason}") for file, reason in reasons.items()]
    return html.section("damaged", "Damaged files (skipped)", *notes)


def groups(summary: JsonObject) -> str:
    """Returns the table of a sweep: means over seeds and paired differences from the first row."""
    found = summary.get("groups", [])
    if not found:
        return ""
    names = list(found[0]["metrics"])
    columns = ["settings", "seeds", *map(humanize, names)]
    rows = []
    for group in found:
        values = {k: "none" if v is None else v for k, v in group["settings"].items()}
        settings = ", ".join(f"{humanize(name)} {value}" for name, value in values.items())
        metrics = [_mean(group["metrics"][name]) for name in names]
        rows.append([html.text(settings) or "preset", html.text(len(group["seeds"])), *metrics])
    caption = (
        "Mean over seeds ± standard deviation. Second line, with more than one seed: mean paired "
        "difference from the first row with its 95% t-interval; an interval that contains 0 shows "
        "no significant difference."
    )
    table = html.table(columns, rows, numbers=columns[1:], cards=True)
    return html.section("groups", "Sweep results", table, html.note(caption))


def _mean(statistics: JsonObject) -> str:
    cell = html.text(format_value(statistics["mean"]))
    if statistics["std"] is not None:
        cell += f" ± {html.text(format_value(statistics['std']))}"
    if statistics.get("difference") is not None:
        low, high = format_value(statistics["low"]), format_value(statistics["high"])
        cell += html.note(f"{format_value(statistics['difference'])} [{low}, {high}]")
    return cell


def final_metrics(summary: JsonObject, rows: Rows, unit: str = "nats") -> str:
    """Returns the final metrics, and our loss beside those of the baselines."""
    metrics = summary.get("metrics", {})
    errors = {name: metrics.get(f"{name}_stderr") for name in metrics}
    values = [
        (humanize(name), _with_error(value, errors[name]))
        for name, value in metrics.items()
        if name.removesuffix("_stderr") not in metrics or not name.endswith("_stderr")
    ]
    costs = [(name, summary.get(key), scale) for key, (name, scale) in COSTS.items()]
    values += [
        (name, format_value(value, unit)) for name, value, unit in costs if value is not None
    ]
    cells = [list(map(html.text, row)) for row in values]
    tables = [html.table(["metric", "value"], cells, numbers=("value",))]
    tables += [html.note(line) for line in _evaluation_notes(summary.get("evaluated", {}), errors)]
    split, ours = monitored_loss(summary, rows)
    others = tuple(f"{row['split']}_" for row in rows if row["split"] != split)
    losses = {
        name: value
        for name, value in loss_baselines(summary.get("baselines", {})).items()
        if not name.startswith(others)
    }
    if losses and ours is not None:
        name = f"this model, {humanize(split)}"
        ranked = sorted((losses | {name: ours}).items(), key=lambda item: -item[1])
        cells = [[html.text(humanize(key)), html.text(format_value(loss))] for key, loss in ranked]
        columns, bold = ["model", f"loss [{unit}]"], [key == name for key, _ in ranked]
        table = html.table(columns, cells, numbers=columns[1:], highlighted=bold)
        tables += ["<h3>Baselines</h3>", table]
    return html.section("metrics", "Final metrics", *tables)


def _with_error(value: Any, error: float | None, unit: str = "") -> str:
    """Returns a formatted value, with its standard error if there is one."""
    return format_value(value, unit) if error is None else format_with_error(value, error, unit)


def _evaluation_notes(evaluated: JsonObject, errors: Mapping[str, Any]) -> list[str]:
    """Returns how a text was evaluated: the meaning of ±, and the parts of which a sample was."""
    meaning = "± is the standard error of a loss over windows of the text, taken as independent."
    sampled = [
        f"{humanize(split)}: {part['tokens']:,} of {part['of']:,} targets are scored, in evenly"
        " spaced windows."
        for split, part in evaluated.items()
        if part["tokens"] < part["of"]
    ]
    of_text = any(name.endswith("_loss") and errors[name] is not None for name in errors)
    return [meaning, *sampled] if of_text else sampled


def settings(config: JsonObject) -> str:
    """Returns all settings; those that differ from the preset are bold.

    A setting that the run resolved for its machine, such as `auto`, is shown with the result.
    """
    values, preset = config.get("settings", {}), config.get("preset_settings", {})
    tuned = config.get("tuned", {})

    def value_of(name: str, value: Any) -> str:
        resolved = tuned.get(name, value)
        return _code(value) + ("" if resolved == value else f", resolved to {_code(resolved)}")

    changed = [bool(preset) and preset.get(name) != value for name, value in values.items()]
    rows = [
        [f"<code>{html.text(name)}</code>", value_of(name, value)]
        + ([_code(preset.get(name)) if differs else "same"] if preset else [])
        for (name, value), differs in zip(values.items(), changed, strict=True)
    ]
    columns = ["setting", "value", *(["preset"] if preset else [])]
    table = html.table(columns, rows, highlighted=changed)
    if not table:
        return ""
    count = f"{sum(changed)} of {len(rows)} differ from the preset." if preset else ""
    details = html.details(f"All {len(rows)} settings", table, group="settings")
    return html.section("settings", "Settings", html.note(count) if count else "", details)


def environment(config: JsonObject, summary: JsonObject) -> str:
    """Returns the recorded device, data set and versions."""
    recorded = {name: config.get(name, {}) for name in ("device", "dataset", "versions")}
    recorded["environment"] = summary.get("environment", {})
    rows = [[html.text(name), _code(value)] for name, value in _flat(recorded)]
    return html.section("environment", "Environment", html.table(["property", "value"], rows))


def reproduce(config: JsonObject, summary: JsonObject) -> str:
    """Returns the command of the run and the checksum of its result."""
    command, digest = config.get("command"), summary.get("parameters_sha256")
    requested = config.get("settings", {}).get("dataset")
    used = config.get("dataset", {}).get("name")
    is_path = any(mark in str(requested) for mark in "/\\")  # a path that is missing is refused
    if command and requested and used and requested != used and not is_path:
        command += f"  # trained on {used}: {requested} was not found"
    checksum = (
        "The same versions on the same kind of machine give bitwise equal parameters; "
        f"SHA-256: {digest}."
    )
    return html.section(
        "reproduce",
        "Reproduce",
        html.preformatted(command, label="Command") if command else "",
        html.note(checksum) if digest else "",
    )


def _code(value: Any) -> str:
    return f"<code>{html.text('none' if value is None else value)}</code>"


def _flat(content: JsonObject, prefix: str = "") -> Iterator[tuple[str, Any]]:
    for name, value in content.items():
        if isinstance(value, Mapping):
            yield from _flat(value, f"{prefix}{name}: ")
        else:
            yield f"{prefix}{humanize(name)}", value
