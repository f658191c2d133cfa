"""Times relative to PyTorch stay below limits, about a fifth above those of docs/performance.md."""

import pytest

from jaxlabs.benchmark import lab as benchmark
from jaxlabs.benchmark import timing
from jaxlabs.benchmark.suites import SUITES, Bench
from jaxlabs.benchmark.timing import FLOAT32, OURS, MeasuringConfig

LIMITS = {
    ("gpt_train", "step"): 0.95,
    ("ddpm_train", "step"): 1.4,
    ("ddpm_sample", "reverse step"): 1.45,
    ("speech_lm", "step"): 0.95,
    ("speech_classifier", "step"): 1.25,
    ("char_rnn", "rnn"): 0.9,
    ("char_rnn", "lstm"): 0.85,
    ("char_rnn", "gru"): 0.9,
    ("window_attention", "full_causal, 4096 tokens"): 1.5,
    ("window_attention", "window, 4096 tokens"): 0.3,
}


@pytest.mark.benchmark
@pytest.mark.peers
@pytest.mark.parametrize(("suite", "variant"), LIMITS)
def test_float32_is_within_its_limit_of_pytorch(suite, variant, capsys):
    pytest.importorskip("torch")
    labs = {lab.name: benchmark._lab_under_test(lab, None) for lab in benchmark.LABS}
    bench = Bench(labs=labs, small=True, torch_compile=False, max_length=4096)
    (group,) = (group for group in SUITES[suite](bench) if group[0].variant == variant)
    cases = [
        case
        for case in group
        if case.precision in ("highest", FLOAT32) and (case.framework == OURS or not case.skipped)
    ]
    rows = timing.compare(timing.measure_group(cases, MeasuringConfig(repeats=5, max_seconds=5.0)))
    ratio = rows[0]["ratio_to_best_peer"]
    with capsys.disabled():
        print(f"\n{suite}, {variant}: {ratio:.2f}")
    assert ratio <= LIMITS[suite, variant]
