"""Earlier names in stored run folders: `RunReader` returns everything under the present names."""

from collections.abc import Mapping
from typing import Any

METRICS: dict[str, str] = {}
"""Metrics, old name -> new name; after a split's name too: `test_<old>` becomes `test_<new>`."""

SPLITS: dict[str, str] = {}
"""Splits of the data set, old name -> new name; in names of metrics too."""

ARRAY_FILES: dict[str, str] = {}
"""Files `arrays/<name>.npz`, old name -> new name."""

ARRAY_KEYS: dict[str, dict[str, str]] = {}
"""Arrays in `arrays/<name>.npz`, by the new name of the file: old name -> new name."""

CONFIG_KEYS = {"why_not": "not_comparable_reason"}
"""Keys of config.json."""

SUMMARY_KEYS = {"compared": "comparison"}
"""Keys of summary.json."""

COMPARISON_KEYS = {"why_not": "not_comparable_reason"}
"""Keys of one comparison with a published result, in summary.json and results.json."""

GROUP_KEYS = {"figures": "metrics"}
"""Keys of one group of a sweep's runs, in summary.json."""


def metric(name: str) -> str:
    """Returns the present name of a metric, `<metric>` or `<split>_<metric>`.

    A sweep writes the settings of the run before it: `<settings>: <metric>`.
    """
    settings, colon, name = name.rpartition(": ")
    if name in METRICS:
        return settings + colon + METRICS[name]
    for old, new in SPLITS.items():
        if name.startswith(f"{old}_"):
            name = new + name.removeprefix(old)
            break
    for old, new in METRICS.items():
        if name.endswith(f"_{old}"):
            name = name.removesuffix(old) + new
            break
    return settings + colon + name


def row(stored: Mapping[str, Any]) -> dict[str, Any]:
    """Returns a row of metrics.jsonl under the present names."""
    renamed = _keys(stored, METRICS)
    split = renamed.get("split")
    return renamed | {"split": SPLITS.get(split, split)} if isinstance(split, str) else renamed


def config(stored: Any) -> Any:
    """Returns the content of config.json under the present names."""
    return _keys(stored, CONFIG_KEYS)


def summary(stored: Any) -> Any:
    """Returns the content of summary.json under the present names; damage is left as it is."""
    content = _keys(stored, SUMMARY_KEYS)
    if not isinstance(content, dict):
        return content
    rows = {
        "comparison": _comparison,
        "results": _comparison,
        "groups": _group,
        "runs": _metrics_entry,
    }
    for name, rename in rows.items():
        if isinstance(content.get(name), list):
            content[name] = [rename(item) for item in content[name]]
    if isinstance(content.get("baselines"), dict):
        content["baselines"] = {
            SPLITS.get(split, split): value for split, value in content["baselines"].items()
        }
    return _metrics_entry(content)


def array_file(name: str) -> str:
    """Returns the present name of `arrays/<name>.npz`."""
    return ARRAY_FILES.get(name, name)


def earlier_array_files(name: str) -> list[str]:
    """Returns the names that `arrays/<name>.npz` had before."""
    return [old for old, new in ARRAY_FILES.items() if new == name]


def arrays(file: str, stored: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arrays of `arrays/<file>.npz` under the present names."""
    return _keys(stored, ARRAY_KEYS.get(array_file(file), {}))


def _keys(content: Any, names: Mapping[str, str]) -> Any:
    if not isinstance(content, Mapping):
        return content
    return {names.get(name, name): value for name, value in content.items()}


def _comparison(item: Any) -> Any:
    item = _keys(item, COMPARISON_KEYS)
    if isinstance(item, dict) and isinstance(item.get("metric"), str):
        item["metric"] = metric(item["metric"])
    return item


def _group(item: Any) -> Any:
    return _metrics_entry(_keys(item, GROUP_KEYS))


def _metrics_entry(item: Any) -> Any:
    if isinstance(item, dict) and isinstance(item.get("metrics"), dict):
        return item | {"metrics": {metric(name): value for name, value in item["metrics"].items()}}
    return item
