"""Tests of jaxlabs/published: records of published results and their comparison."""

import dataclasses
import json
import subprocess
import sys

import pytest

from jaxlabs import labs, published
from jaxlabs.published import Published, PublishedCurve

UNITS = ("nats", "seconds", "parameters", "perplexity", "fraction", "cost", "units")
UNITS += ("relative difference", "squared error")


RECORDS = [(name, record) for name in labs.names() for record in labs.load(name).published]
GPT = labs.load("gpt").published


def of(kind):
    return [record for _, record in RECORDS if isinstance(record, kind)]


def row(rows, metric, value):
    (found,) = [row for row in rows if (row["metric"], row["published"]) == (metric, value)]
    return found


def test_every_record_has_source_unit_and_reason():
    for record in of(Published):
        assert record.source
        assert record.comparable or record.note
        assert record.unit in UNITS
        assert record.unit != "fraction" or 0 <= record.value <= 1


def test_every_curve_has_a_source_and_increasing_steps():
    for curve in of(PublishedCurve):
        assert curve.source
        assert list(curve.steps) == sorted(set(curve.steps))
        assert curve.unit != "fraction" or all(0 <= value <= 1 for value in curve.values)
        assert published.curves([curve], curve.presets[0]) == [curve]


def test_curve_with_unequal_lengths_raises():
    curve = of(PublishedCurve)[0]
    with pytest.raises(ValueError, match="steps, 1 values"):
        dataclasses.replace(curve, values=(0.5,))


def test_published_results_are_unique():
    keys = [(name, r.metric, r.value) for name, r in RECORDS if isinstance(r, Published)]
    assert len(keys) == len(set(keys))


def test_reference_parameters_equal_the_sum_over_layers():
    # Embedding, six blocks, final LayerNorm, head; a block is q/k/v without bias, the output
    # projection, the feed-forward layers and two LayerNorms.
    width, hidden, vocabulary = 384, 1536, 65
    attention = 3 * width * width + width * width + width
    feed_forward = width * hidden + hidden + hidden * width + width
    block = attention + feed_forward + 2 * 2 * width
    total = vocabulary * width + 6 * block + 2 * width + width * vocabulary + vocabulary
    rows = published.compare(GPT, "reference", {})
    assert row(rows, "parameters", 10_690_625)["published"] == total


def test_published_seconds_are_six_hours_and_thirty_two_minutes():
    rows = published.compare(GPT, "reference", {"seconds": 60.0})
    assert row(rows, "seconds", 23_520)["ours"] == 60.0


def test_held_out_loss_is_not_comparable_with_the_write_ups_validation_loss():
    found = row(published.compare(GPT, "reference", {"held_out_loss": 1.5}), "held_out_loss", 0.988)
    assert found["ours"] == 1.5
    assert not found["comparable"]
    assert "training windows" in found["not_comparable_reason"]


@pytest.mark.parametrize(
    ("preset", "value"),
    [("quick", 1.88), ("reference", 1.4697), ("speedrun", 1.4697)],
)
def test_each_preset_is_compared_with_nanogpt_on_the_same_split(preset, value):
    found = row(published.compare(GPT, preset, {"held_out_loss": 1.4}), "held_out_loss", value)
    assert found["comparable"]
    assert found["not_comparable_reason"] == ""
    assert "nanoGPT" in found["source"]


def test_missing_metric_is_none():
    assert [r["ours"] for r in published.compare(GPT, "quick", {})] == [None]


def test_not_comparable_run_keeps_the_reason_of_each_row():
    reason = "trained on python_reference"
    rows = published.compare(GPT, "reference", {}, not_comparable_reason=reason)
    assert not any(r["comparable"] for r in rows)
    assert all(r["not_comparable_reason"].startswith("trained on python_reference") for r in rows)
    assert "held out" in row(rows, "held_out_loss", 0.988)["not_comparable_reason"]


def test_unknown_preset_has_no_rows():
    assert published.compare(GPT, "no such preset", {"held_out_loss": 1.0}) == []


def test_rows_round_trip_through_json():
    rows = published.compare(GPT, "reference", {"parameters": 10_690_625})
    assert json.loads(json.dumps(rows)) == rows


def test_import_does_not_import_jax():
    code = "import sys, jaxlabs.published; sys.exit('jax' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code]).returncode == 0
