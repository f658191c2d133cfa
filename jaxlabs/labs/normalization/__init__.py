"""A study of batch normalization: training speed, maximum learning rate and regularization."""
