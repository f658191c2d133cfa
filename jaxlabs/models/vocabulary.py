"""The setting that all models of tokens share."""

import dataclasses
from typing import Self

from jaxlabs.config import Config, UserError, setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class VocabularyConfig(Config):
    """How many tokens a model knows."""

    vocabulary_size: int | None = setting(
        None, "tokens that the model knows; none: as many as the data have", minimum=1
    )

    def with_vocabulary(self, tokens: int) -> Self:
        """Returns the config with a vocabulary for data of so many tokens, spare rows included.

        Raises:
          UserError: the configured vocabulary is smaller than the data's.
        """
        size = tokens if self.vocabulary_size is None else self.vocabulary_size
        if size < tokens:
            raise UserError(f"--vocabulary_size: {size} is too few for the data; at least {tokens}")
        return dataclasses.replace(self, vocabulary_size=size)
