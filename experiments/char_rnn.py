"""A character language model with an RNN, LSTM or GRU, trained by truncated BPTT."""

from jaxlabs.labs.char_rnn.lab import LAB
from jaxlabs.runner import cli

if __name__ == "__main__":
    cli.main(LAB)
