"""Run folders of earlier versions are read under present names."""

import numpy as np
import pytest

from jaxlabs.run_folder import RunFolder, renamed

MAPS = {
    "METRICS": {"surprise": "nll"},
    "SPLITS": {"longer": "long"},
    "ARRAY_FILES": {"drawn": "sampled"},
    "ARRAY_KEYS": {"sampled": {"pictures": "images"}},
}


@pytest.fixture
def folder(tmp_path, monkeypatch):
    for name, names in MAPS.items():
        monkeypatch.setattr(renamed, name, names)
    folder = RunFolder(tmp_path / "run")
    folder.create()
    return folder


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("surprise", "nll"),
        ("longer_surprise", "long_nll"),
        ("test_surprise", "test_nll"),
        ("longer_loss", "long_loss"),
        ("width=8: longer_surprise", "width=8: long_nll"),
        ("loss", "loss"),
        ("surprises", "surprises"),
    ],
)
def test_metric_name_has_split_and_metric_renamed(folder, old, new):
    assert renamed.metric(old) == new
    assert renamed.metric(new) == new


def test_rows_have_split_and_metrics_renamed(folder):
    folder.append_metrics([{"step": 1, "split": "longer", "loss": 2.0, "surprise": 1.0}])
    assert folder.read_metrics() == [{"step": 1, "split": "long", "loss": 2.0, "nll": 1.0}]


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("bound_64", "iwae_64"),
        ("bound_5000_error", "iwae_5000_stderr"),
        ("bound_1000_images", "iwae_1000_images"),
        ("gradient_share_before_rnn_200_steps", "gradient_norm_ratio_before_rnn_200_steps"),
        ("long_of_optimum", "long_relative_score"),
    ],
)
def test_metrics_of_earlier_versions_have_present_names(old, new):
    assert renamed.metric(old) == new


def test_config_and_summary_have_keys_and_metrics_renamed(folder):
    config = {"experiment": "gpt", "preset": "quick", "settings": {}, "why_not": "another text"}
    folder.write_config(config)
    assert folder.read_config()["not_comparable_reason"] == "another text"
    comparison = {"figure": "loss", "metric": "longer_surprise", "unit": "share", "published": 1.0}
    comparison |= {"ours": 1.1, "source": "", "comparable": True, "why_not": "", "note": ""}
    summary = {"experiment": "gpt", "preset": "quick", "seconds": 1.0, "environment": {}}
    summary |= {"metrics": {"longer_surprise": 1.0}, "compared": [comparison]}
    summary |= {"groups": [{"settings": {}, "figures": {"longer_surprise": {"deviation": 1}}}]}
    summary |= {"statements": [{"printed": "1 < 0", "right": "0 < 1"}]}
    summary |= {"failures": [{"run": "gpt, seed 0", "why": "no data"}]}
    folder.write_summary(summary)
    found = folder.read_summary()
    assert found["metrics"] == {"long_nll": 1.0}
    assert found["comparison"][0]["metric"] == "long_nll"
    assert found["comparison"][0]["not_comparable_reason"] == ""
    assert found["comparison"][0]["unit"] == "fraction"
    assert found["groups"] == [{"settings": {}, "metrics": {"long_nll": {"std": 1}}}]
    assert found["statements"] == [{"printed": "1 < 0", "correct": "0 < 1"}]
    assert found["failures"] == [{"run": "gpt, seed 0", "reason": "no data"}]


def test_metadata_of_a_checkpoint_has_keys_renamed():
    stored = {"vocabulary": {"shown": ["a"], "shape": [1]}, "loss": 1.0}
    expected = {"data_spec": {"examples": ["a"], "shape": [1]}, "loss": 1.0}
    assert renamed.checkpoint(stored) == renamed.checkpoint(expected) == expected
    assert renamed.checkpoint(None) is None
    assert renamed.checkpoint({"vocabulary": 3}) == {"data_spec": 3}


def test_arrays_are_read_from_their_earlier_file_under_present_names(folder):
    folder.write_arrays("drawn", pictures=np.zeros(2), steps=np.ones(1))
    assert folder.arrays("sampled").name == "drawn.npz"
    assert folder.read_arrays(folder.arrays("sampled")).keys() == {"images", "steps"}
    folder.write_arrays("sampled", images=np.ones(2))
    assert folder.arrays("sampled").name == "sampled.npz"


def test_strings_in_arrays_are_renamed(folder):
    folder.write_arrays("window_attention", case=["jaxlabs, dense", "jaxlabs, window"])
    cases = folder.read_arrays(folder.arrays("window_attention"))["case"]
    assert cases.tolist() == ["jaxlabs, full_causal", "jaxlabs, window"]


@pytest.mark.parametrize(
    ("old", "new"),
    [("large matmul", "large"), ("dense, 1024 tokens", "full_causal, 1024 tokens"), ("gru", "gru")],
)
def test_rows_of_the_benchmark_have_keys_and_variants_renamed(old, new):
    row = {"variant": old, "rounds": [0.1], "figures": {"bfloat16_dots": 1.0, "loss": 2.0}}
    expected = {"variant": new, "repeats": [0.1], "metrics": {"bfloat16_matmuls": 1.0, "loss": 2.0}}
    assert renamed.benchmark({"rows": [row]}) == {"rows": [expected]}
    assert renamed.benchmark({"rows": [expected, 3]}) == {"rows": [expected, 3]}
    assert renamed.benchmark([row]) == [row]


def test_no_present_name_is_also_an_earlier_one():
    for names in (
        renamed.METRICS,
        renamed.SPLITS,
        renamed.ARRAY_FILES,
        *renamed.ARRAY_KEYS.values(),
    ):
        assert not names.keys() & set(names.values())


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("params.blocks_0.ffn.expand.kernel", "params.blocks_0.ffn.up_proj.kernel"),
        ("opt_state.0.mu.reader.recurrent.bias", "opt_state.0.mu.encoder.recurrent.bias"),
        ("ema_params.code_mean.kernel", "ema_params.z_mean.kernel"),
        ("params.expanded.kernel", "params.expanded.kernel"),
    ],
)
def test_segments_of_parameter_paths_are_renamed(old, new):
    assert renamed.parameter(old) == new
    assert renamed.parameter(new) == new
