"""Published results of recurrent character models on tiny Shakespeare.

The README of karpathy/char-rnn states no validation loss for this text. Values quoted elsewhere are
names of checkpoints of unknown size, evaluated on the last 5% of the text.
"""

import functools

from jaxlabs.published import Published

_minimal = functools.partial(
    Published,
    metric="held_out_windows_loss",
    unit="nats",
    presets=("quick", "reference", "best"),
    source="Feng et al. 2024, “Were RNNs All We Needed?” (arXiv 2410.01201), section 4.2",
    note=(
        "same text and nanoGPT's split, evaluated in windows; best of evaluations every 25"
        " steps; three blocks of dimension 384, each with a convolution and an MLP around the"
        " cell"
    ),
)

PUBLISHED_RESULTS = (
    _minimal(quantity="minimal GRU, test loss", value=1.548),
    _minimal(quantity="minimal LSTM, test loss", value=1.555),
)
