"""The alignment has the generated words of an untrained translation model."""

import jax
import numpy as np
import pytest

from jaxlabs.data.batches import Examples
from jaxlabs.data.sequence_data import SPECIAL_TOKENS
from jaxlabs.data.vocab import Vocab
from jaxlabs.labs.sequence_patterns.plot_arrays import _alignment
from jaxlabs.models.seq2seq import Seq2Seq
from jaxlabs.models.sequence_classifier import SequenceConfig

pytestmark = pytest.mark.usefixtures("quickly_compiled")

SOURCE, TARGET = (Vocab(words, SPECIAL_TOKENS) for words in (("moon", "the"), ("la", "luna")))


@pytest.mark.parametrize("backbone", ["rnn", "transformer"])
def test_alignment_of_translation_without_end_token(backbone):
    """`<sos>` has a higher probability but is never generated."""
    config = SequenceConfig(backbone=backbone, embed_dim=4, num_heads=2, mlp_dim=4)
    model = Seq2Seq(config, SOURCE.size, TARGET.size, source_length=5, target_length=3)
    inputs = np.array([[4, 3, 2, 0, 0]], np.int32)
    params = jax.device_get(jax.jit(model.init)(jax.random.key(0), inputs, inputs[:, :3])["params"])
    params["decoder"]["head"]["bias"] = np.float32([0, 100, 0, 50, 0])
    result = _alignment(model, params, Examples({"inputs": inputs}), 0, (SOURCE, TARGET))
    assert result["target"] == ["la"] * 3
    assert result["source"] == ["the", "moon", "<eos>"]
    maps = config.depth if backbone == "transformer" else 1  # each block attends, or the head does
    assert result["maps"].shape == (maps, 3, 3)
    np.testing.assert_allclose(result["maps"].sum(axis=-1), 1, atol=1e-5)
