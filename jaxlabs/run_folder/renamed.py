"""Earlier names in stored run folders: `RunReader` returns everything under the present names."""

from collections.abc import Collection, Iterable, Mapping
from typing import Any

import numpy as np

METRICS: dict[str, str] = {
    "fair coins": "uniform Bernoulli",
    "independent pixels": "independent Bernoulli",
    "perfect knowledge": "optimal",
    "frechet": "fid",
    "unsure": "prediction_entropy",
    "judge_accuracy": "classifier_accuracy",
    "nearest_to_test_picture": "nearest_to_test_image",
    "claim_better_on_test_pictures": "claim_better_on_test_images",
    "claim_noise_regularises": "claim_noise_regularizes",
    "runs_blown_up_without_clipping": "runs_diverged_without_clipping",
    "runs_blown_up_with_clipping": "runs_diverged_with_clipping",
    "cell_path_held_error": "cell_path_stop_gradient_error",
    "bits_per_dimension_error": "bits_per_dimension_stderr",
    "bound_5000_error": "iwae_5000_stderr",
    "of_optimum": "relative_score",
    "spans_right": "spans_correct",
    "spans_there": "spans_gold",
    "sentences_right": "sentences_correct",
    "gap_loss_before": "masked_loss_before",
    "gap_loss_after": "masked_loss_after",
    "marked": "wrong_values_and_statements",
    "wrong_values": "wrong_values_and_statements",
    "numbers": "values",
    "loss_shared_rule_the_same_everywhere": "loss_shared_rule_position_independent",
    "loss_shared_rule_its_own_at_every_position": "loss_shared_rule_position_dependent",
    "loss_unshared_rule_the_same_everywhere": "loss_unshared_rule_position_independent",
    "loss_unshared_rule_its_own_at_every_position": "loss_unshared_rule_position_dependent",
    "loss_shared_told_the_position_rule_the_same_everywhere": (
        "loss_shared_position_input_rule_position_independent"
    ),
    "loss_shared_told_the_position_rule_its_own_at_every_position": (
        "loss_shared_position_input_rule_position_dependent"
    ),
}
"""Metrics, old name -> new name; after a split's name too: `test_<old>` becomes `test_<new>`."""

METRIC_PREFIXES = {
    "floor": "real_data",
    "gradient_share": "gradient_norm_ratio",
    "bound": "iwae",
    "specialisation_of": "specialization_of",
    "adding_lstm_gates_spread": "adding_lstm_chrono_init",
    "copying_lstm_gates_spread": "copying_lstm_chrono_init",
    "matmul_large_dot": "matmul_large",
    "matmul_large_matmul": "matmul_large",
    "window_attention_dense": "window_attention_full_causal",
}
"""Beginnings of names of metrics, `<old>_...` -> `<new>_...`."""

SPLITS = {"longer": "long", "whole_text": "train_and_val"}
"""Splits of the data set, old name -> new name; in names of metrics too."""

ARRAY_FILES = {
    "neighbours": "neighbors",
    "heads_and_memory": "self_and_cross_attention",
    "sampler_quality": "fid_by_steps",
    "loss_by_time": "loss_by_timestep",
}
"""Files `arrays/<name>.npz`, old name -> new name."""

ARRAY_KEYS = {
    "forward_process": {"pictures": "images", "times": "timesteps"},
    "trajectory": {"pictures": "images", "times": "timesteps"},
    "loss_by_timestep": {"times": "timesteps"},
    "animation": {"pictures": "images"},
    "latent_map": {"pictures": "images"},
    "batch_noise": {"pictures": "num_images"},
    "window_attention": {"rival": "case"},
    "attention_heads": {"specialisation": "specialization"},
    "worked_batch_norm": {"normalised": "normalized"},
    "clipping": {"clip_norm": "grad_clip_norm", "blown_up": "divergence_threshold"},
    "memory_adding": {"hidden": "hidden_size"},
    "memory_copying": {"hidden": "hidden_size"},
    "cell_paths": {"held_error": "stop_gradient_error"},
    "gates": {"marks": "markers"},
    "fid_by_steps": {
        "frechet": "fid",
        "unsure": "prediction_entropy",
        "floor_count": "real_data_count",
        "floor_frechet": "real_data_fid",
    },
    "misclassified": {"taken": "predicted"},
    "retrieval": {"right": "relevant"},
    "reliability": {"share": "accuracy"},
    "sequence_pattern": {"right": "target"},
    "tagged_words": {"right": "target"},
    "norm_training": {
        "claim_better_on_test_pictures": "claim_better_on_test_images",
        "claim_noise_regularises": "claim_noise_regularizes",
    },
    "activation_scale": {
        "claim_better_on_test_pictures": "claim_better_on_test_images",
        "claim_noise_regularises": "claim_noise_regularizes",
    },
}
"""Arrays in `arrays/<name>.npz`, by the new name of the file: old name -> new name."""

ARRAY_TEXTS = {
    "memory_adding": {"gates spread": "chrono init"},
    "memory_copying": {"gates spread": "chrono init"},
    "cell_paths": {"gates spread": "chrono init"},
    "window_attention": {", dense": ", full_causal"},
}
"""Parts of strings in arrays, by the new name of the file: old -> new."""

CONFIG_KEYS = {"why_not": "not_comparable_reason"}
"""Keys of config.json."""

SUMMARY_KEYS = {"compared": "comparison"}
"""Keys of summary.json."""

COMPARISON_KEYS = {"why_not": "not_comparable_reason", "figure": "quantity", "deviation": "std"}
"""Keys of one comparison with a published result, in summary.json and results.json."""

GROUP_KEYS = {"figures": "metrics"}
"""Keys of one group of a sweep's runs, in summary.json."""

STATISTICS_KEYS = {"deviation": "std"}
"""Keys of one metric of such a group."""

CLAIM_KEYS = {"found": "evidence"}
"""Keys of one claim of the lab `normalization`, in summary.json."""

PROBLEM_KEYS = {"write_up": "reference", "write_up_from": "reference_from", "mark": "erratum"}
"""Keys of one value of the lab `worked_problems`, in summary.json."""

STATEMENT_KEYS = {"right": "correct"}
"""Keys of one statement of the lab `worked_problems`, in summary.json."""

BENCHMARK_KEYS = {"rounds": "repeats", "figures": "metrics"}
"""Keys of one row of benchmark.json."""

BENCHMARK_METRICS = {"bfloat16_dots": "bfloat16_matmuls"}
"""Metrics of one row of benchmark.json."""

BENCHMARK_VARIANTS = {"large dot": "large", "large matmul": "large", "dense": "full_causal"}
"""Variants in benchmark.json, by the part before a comma."""

FAILURE_KEYS = {"why": "reason"}
"""Keys of one failed run of a suite, in summary.json and results.json."""

CHECKPOINT_KEYS = {"vocabulary": "data_spec"}
"""Keys of the metadata of a checkpoint and of an exported file."""

DATA_SPEC_KEYS = {"shown": "examples"}
"""Keys of `DataModule.data_spec`, which is part of that metadata."""

PARAMETERS = {
    "expand": "up_proj",
    "contract": "down_proj",
    "code_mean": "z_mean",
    "code_log_variance": "z_log_var",
    "reader": "encoder",
    "votes": "wide_logits",
}
"""Flax modules, by one segment of a parameter's path `blocks_0.ffn.up_proj.kernel`."""


def parameter(path: str) -> str:
    """Returns the present path of a parameter, or of what an optimizer keeps for it."""
    return ".".join(PARAMETERS.get(segment, segment) for segment in path.split("."))


def parameters(stored: Iterable[str], model: Collection[str]) -> dict[str, str]:
    """Returns stored path -> path in the model; a path that the model has is not renamed."""
    return {path: path if path in model else parameter(path) for path in stored}


def metric(name: str) -> str:
    """Returns the present name of a metric, `<metric>` or `<split>_<metric>`.

    A sweep writes the settings of the run before it: `<settings>: <metric>`.
    """
    settings, colon, name = name.rpartition(": ")
    if name in METRICS:
        return settings + colon + METRICS[name]
    for old, new in (METRIC_PREFIXES | SPLITS).items():
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


def checkpoint(stored: Any) -> Any:
    """Returns the metadata of a checkpoint or of an exported file under the present names."""
    content = _keys(stored, CHECKPOINT_KEYS)
    if isinstance(content, dict) and "data_spec" in content:
        content["data_spec"] = _keys(content["data_spec"], DATA_SPEC_KEYS)
    return content


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
        "failures": _failure,
        "groups": _group,
        "runs": _metrics_entry,
        "claims": lambda item: _keys(item, CLAIM_KEYS),
        "problems": lambda item: _keys(item, PROBLEM_KEYS),
        "statements": lambda item: _keys(item, STATEMENT_KEYS),
    }
    for name, rename in rows.items():
        if isinstance(content.get(name), list):
            content[name] = [rename(item) for item in content[name]]
    if isinstance(content.get("baselines"), dict):
        content["baselines"] = {metric(name): value for name, value in content["baselines"].items()}
    return _metrics_entry(content)


def array_file(name: str) -> str:
    """Returns the present name of `arrays/<name>.npz`."""
    return ARRAY_FILES.get(name, name)


def earlier_array_files(name: str) -> list[str]:
    """Returns the names that `arrays/<name>.npz` had before."""
    return [old for old, new in ARRAY_FILES.items() if new == name]


def arrays(file: str, stored: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the arrays of `arrays/<file>.npz` under the present names."""
    file = array_file(file)
    content = _keys(stored, ARRAY_KEYS.get(file, {}))
    for old, new in ARRAY_TEXTS.get(file, {}).items():
        for name, array in content.items():
            if array.dtype.kind == "U":
                content[name] = np.char.replace(array, old, new)
    return content


def benchmark(stored: Any) -> Any:
    """Returns the content of benchmark.json under the present names; damage is left as it is."""
    if isinstance(stored, dict) and isinstance(stored.get("rows"), list):
        return stored | {"rows": [_benchmark_row(row) for row in stored["rows"]]}
    return stored


def _benchmark_row(row: Any) -> Any:
    row = _keys(row, BENCHMARK_KEYS)
    if isinstance(row, dict):
        if "metrics" in row:
            row["metrics"] = _keys(row["metrics"], BENCHMARK_METRICS)
        if isinstance(row.get("variant"), str):
            kind, comma, rest = row["variant"].partition(",")
            row["variant"] = BENCHMARK_VARIANTS.get(kind, kind) + comma + rest
    return row


def _keys(content: Any, names: Mapping[str, str]) -> Any:
    if not isinstance(content, Mapping):
        return content
    return {names.get(name, name): value for name, value in content.items()}


def _comparison(item: Any) -> Any:
    item = _keys(item, COMPARISON_KEYS)
    if isinstance(item, dict) and isinstance(item.get("metric"), str):
        item["metric"] = metric(item["metric"])
    if isinstance(item, dict) and item.get("unit") == "share":
        item["unit"] = "fraction"
    return item


def _failure(item: Any) -> Any:
    return _keys(item, FAILURE_KEYS)


def _group(item: Any) -> Any:
    item = _metrics_entry(_keys(item, GROUP_KEYS))
    if isinstance(item, dict) and isinstance(item.get("metrics"), dict):
        statistics = {name: _keys(row, STATISTICS_KEYS) for name, row in item["metrics"].items()}
        return item | {"metrics": statistics}
    return item


def _metrics_entry(item: Any) -> Any:
    if isinstance(item, dict) and isinstance(item.get("metrics"), dict):
        return item | {"metrics": {metric(name): value for name, value in item["metrics"].items()}}
    return item
