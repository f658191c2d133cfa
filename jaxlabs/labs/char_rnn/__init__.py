"""A language model of characters with an RNN, LSTM or GRU, trained by truncated BPTT."""
