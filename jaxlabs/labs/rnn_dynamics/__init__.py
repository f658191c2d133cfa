"""A study of gradients and memory in recurrent networks: RNN, LSTM and GRU."""
