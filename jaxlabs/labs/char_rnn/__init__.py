"""A character language model with an RNN, LSTM or GRU, trained by truncated BPTT."""
