"""The vocabulary setting of all token models."""

import dataclasses
from typing import Self

from jaxlabs.config import Config, UserError, setting


@dataclasses.dataclass(frozen=True, kw_only=True)
class VocabularyConfig(Config):
    """Vocabulary size of a model."""

    vocabulary_size: int | None = setting(
        None, "vocabulary size of the model; none: that of the data", minimum=1
    )

    def with_vocabulary(self, data_size: int) -> Self:
        """Returns the config with a vocabulary of at least `data_size` tokens.

        Raises:
          UserError: the configured vocabulary is smaller than the data's.
        """
        size = data_size if self.vocabulary_size is None else self.vocabulary_size
        if size < data_size:
            raise UserError(
                f"--vocabulary_size: {size} is too few for the data; at least {data_size}"
            )
        return dataclasses.replace(self, vocabulary_size=size)
