"""Published results of recurrent character models on tiny Shakespeare.

The README of karpathy/char-rnn states no validation loss for this text. Values quoted elsewhere are
names of checkpoints of unknown size, evaluated on the last 5% of the text.
"""

from jaxlabs.published import Published

MINIMAL = "Feng et al. 2024, “Were RNNs All We Needed?” (arXiv 2410.01201), section 4.2"

PUBLISHED_RESULTS = tuple(
    Published(
        presets=("quick", "reference", "best"),
        quantity=f"{name}, test loss",
        metric="held_out_windows_loss",
        value=value,
        unit="nats",
        source=MINIMAL,
        note=(
            "same text and nanoGPT's split, evaluated in windows; best of evaluations every 25"
            " steps; three blocks of dimension 384, each with a convolution and an MLP around the"
            " cell"
        ),
    )
    for name, value in (("minimal GRU", 1.548), ("minimal LSTM", 1.555))
)
