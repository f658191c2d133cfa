"""A sparse autoencoder of natural image patches, whose hidden units learn edge filters."""
