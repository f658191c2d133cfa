"""A study of gradients and memory in recurrent networks: RNN, LSTM and GRU."""

from jaxlabs.labs.rnn_dynamics.lab import STUDY
from jaxlabs.runner import cli

if __name__ == "__main__":
    cli.main(STUDY)
