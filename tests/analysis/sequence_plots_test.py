"""What is drawn of a translator is what it wrote, however little it has learned."""

import jax
import numpy as np
import pytest

from jaxlabs.analysis.sequence_plots import _alignment
from jaxlabs.data.batches import Examples
from jaxlabs.data.sequence_data import Vocab
from jaxlabs.models.seq2seq import Seq2Seq
from jaxlabs.models.sequence_classifier import SequenceConfig

pytestmark = pytest.mark.usefixtures("quickly_compiled")

SOURCE, TARGET = Vocab(("moon", "the")), Vocab(("la", "luna"))


@pytest.mark.parametrize("backbone", ["rnn", "transformer"])
def test_alignment_of_a_translation_that_never_ends(backbone):
    """Though `<sos>` is likelier still, it is no word to write."""
    config = SequenceConfig(backbone=backbone, embed_dim=4, num_heads=2, mlp_dim=4)
    model = Seq2Seq(config, SOURCE.size, TARGET.size, source_length=5, target_length=3)
    inputs = np.array([[4, 3, 2, 0, 0]], np.int32)
    params = jax.device_get(jax.jit(model.init)(jax.random.key(0), inputs, inputs[:, :3])["params"])
    params["decoder"]["head"]["bias"] = np.float32([0, 100, 0, 50, 0])
    found = _alignment(model, params, Examples({"inputs": inputs}), 0, (SOURCE, TARGET))
    assert found["target"] == ["la"] * 3
    assert found["source"] == ["the", "moon", "<eos>"]
    maps = config.depth if backbone == "transformer" else 1  # each block attends, or the head does
    assert found["maps"].shape == (maps, 3, 3)
    np.testing.assert_allclose(found["maps"].sum(axis=-1), 1, atol=1e-5)
