"""A study of attention: a worked example, a mini encoder, depth, and the number of heads."""
