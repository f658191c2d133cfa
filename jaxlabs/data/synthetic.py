"""Synthetic text sources with an exactly known entropy rate, the lowest reachable loss."""

import bisect
import dataclasses
import math
import string

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class MarkovSource:
    """A first-order Markov chain of characters."""

    letters: str  #: the characters, in the order of the matrix
    #: `[letters, letters]` float64; row i is the distribution of the next letter after letter i
    transitions: np.ndarray

    @classmethod
    def random(cls, size: int = 20, seed: int = 0) -> "MarkovSource":
        """Returns a source over the first `size` lowercase letters, with rows from a Dirichlet."""
        # Concentration 0.5: the mutual information of consecutive letters is 0.6 nats.
        rows = np.random.default_rng(seed).dirichlet(np.full(size, 0.5), size=size)
        return cls(string.ascii_lowercase[:size], rows)

    @property
    def stationary(self) -> np.ndarray:
        """The stationary distribution `[letters]`, the left eigenvector of eigenvalue 1."""
        size = len(self.letters)
        balance = np.vstack([self.transitions.T - np.eye(size), np.ones((1, size))])
        return np.linalg.lstsq(balance, np.append(np.zeros(size), 1.0), rcond=None)[0]

    @property
    def entropy_rate(self) -> float:
        """The lowest reachable loss, in nats per character.

        Source: Cover and Thomas (2006), "Elements of Information Theory", theorem 4.2.4.
        """
        rows = self.transitions
        log_prob = np.log(rows, out=np.zeros_like(rows), where=rows > 0)
        return float(-self.stationary @ (rows * log_prob).sum(axis=1))

    def sample(self, length: int, seed: int = 0) -> str:
        """Returns `length` characters, the first sampled from the stationary distribution."""
        borders = np.cumsum(self.transitions, axis=1)[:, :-1].tolist()
        uniform = np.random.default_rng(seed).random(length).tolist()
        border = np.cumsum(self.stationary)[:-1].tolist()
        text = []
        for u in uniform:
            state = bisect.bisect_right(border, u)
            text.append(self.letters[state])
            border = borders[state]
        return "".join(text)


@dataclasses.dataclass(frozen=True)
class WordSource:
    """Independent, equally likely words, each followed by a space."""

    #: the words, all distinct
    words: tuple[str, ...] = ("hello", "world", "help", "word", "held", "wolf", "low", "row")

    @property
    def entropy_rate(self) -> float:
        """The lowest reachable loss, in nats per character.

        The entropy of a word is the logarithm of the number of words, since spaces mark their ends;
        the rate divides it by the mean number of characters, spaces included.
        """
        characters = sum(len(word) + 1 for word in self.words) / len(self.words)
        return math.log(len(self.words)) / characters

    def sample(self, count: int, seed: int = 0) -> str:
        """Returns `count` words."""
        indices = np.random.default_rng(seed).integers(len(self.words), size=count)
        return "".join(self.words[index] + " " for index in indices)
