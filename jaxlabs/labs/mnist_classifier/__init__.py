"""A small convolutional classifier of digits, also the feature extractor of the FID of `ddpm`."""
