"""Tests of jaxlabs/report/formatting.py."""

import pytest

from jaxlabs.report.formatting import format_bytes, format_duration, format_value, format_with_error


@pytest.mark.parametrize(
    ("value", "unit", "shown"),
    [
        (None, "nats", "—"),
        (10_690_625, "parameters", "10,690,625"),
        (2000.0, "", "2,000"),
        (1.46973, "nats", "1.4697 nats"),
        (0.988, "", "0.9880"),
        (32.71, "", "32.7"),
        (1.5e-5, "", "1.5e-05"),
        (-0.25, "", "-0.2500"),
        (float("nan"), "nats", "not finite"),
        (float("inf"), "seconds", "not finite"),
        (True, "", "True"),
        ("rotary", "", "rotary"),
        (23_520, "seconds", "6 h 32 min"),
        (412_000_000, "bytes", "412 MB"),
    ],
)
def test_format_value(value, unit, shown):
    assert format_value(value, unit) == shown


@pytest.mark.parametrize(
    ("value", "error", "shown"),
    [
        (6.8877, 0.000171, "6.88770 ± 0.00017 nats"),
        (1.53, 0.01234, "1.5300 ± 0.0123 nats"),
        (32.71, 0.25, "32.7100 ± 0.2500 nats"),
        (2.0, 0.0, "2.0000 ± 0.0000 nats"),
        (None, 0.5, "— ± 0.5000 nats"),
    ],
)
def test_value_and_error_have_the_same_decimals(value, error, shown):
    assert format_with_error(value, error, "nats") == shown


@pytest.mark.parametrize(
    ("value", "shown"), [(1.88, "1.88"), (1.4697, "1.4697"), (10_690_625, "10,690,625")]
)
def test_published_values_keep_their_digits(value, shown):
    assert format_value(value, as_stated=True) == shown


@pytest.mark.parametrize(
    ("seconds", "shown"),
    [
        (0, "0.0 s"),
        (59.94, "59.9 s"),
        (60, "1 min 00 s"),
        (119.6, "2 min 00 s"),
        (3599.7, "1 h 00 min"),
    ],
)
def test_format_duration(seconds, shown):
    assert format_duration(seconds) == shown


@pytest.mark.parametrize(
    ("count", "shown"), [(999, "999 bytes"), (1500, "1.5 kB"), (2.5e9, "2.5 GB")]
)
def test_format_bytes(count, shown):
    assert format_bytes(count) == shown
