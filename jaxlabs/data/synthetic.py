"""Sources of data whose optimum is known exactly, so that a model's loss has a true floor."""

import bisect
import dataclasses
import math
import string

import numpy as np


@dataclasses.dataclass(frozen=True, eq=False)
class MarkovSource:
    """Characters of which each depends on the one before it alone.

    Attributes:
      letters: the characters, in the order of the matrix.
      transitions: [letters, letters] float64, row i the probabilities of what follows letter i.
    """

    letters: str
    transitions: np.ndarray

    @classmethod
    def random(cls, size: int = 20, seed: int = 0) -> "MarkovSource":
        """Returns a source over the first `size` small letters, each row drawn from a Dirichlet."""
        # Concentration 0.5 makes the rows uneven: the last letter tells 0.6 nats about the next.
        rows = np.random.default_rng(seed).dirichlet(np.full(size, 0.5), size=size)
        return cls(string.ascii_lowercase[:size], rows)

    @property
    def stationary(self) -> np.ndarray:
        """The long-run share of each letter, [letters]: the row vector that the matrix keeps."""
        size = len(self.letters)
        balance = np.vstack([self.transitions.T - np.eye(size), np.ones((1, size))])
        return np.linalg.lstsq(balance, np.append(np.zeros(size), 1.0), rcond=None)[0]

    @property
    def entropy_rate(self) -> float:
        """The lowest reachable loss, in nats per character.

        Source: Cover and Thomas (2006), "Elements of Information Theory", theorem 4.2.4.
        """
        rows = self.transitions
        surprise = np.log(rows, out=np.zeros_like(rows), where=rows > 0)
        return float(-self.stationary @ (rows * surprise).sum(axis=1))

    def sample(self, length: int, seed: int = 0) -> str:
        """Returns `length` characters, the first one drawn from the stationary distribution."""
        borders = np.cumsum(self.transitions, axis=1)[:, :-1].tolist()
        chances = np.random.default_rng(seed).random(length).tolist()
        border = np.cumsum(self.stationary)[:-1].tolist()
        text = []
        for chance in chances:
            state = bisect.bisect_right(border, chance)
            text.append(self.letters[state])
            border = borders[state]
        return "".join(text)


@dataclasses.dataclass(frozen=True)
class WordSource:
    """Words drawn one by one, all equally likely, each followed by a space.

    Attributes:
      words: the words, no two alike.
    """

    words: tuple[str, ...] = ("hello", "world", "help", "word", "held", "wolf", "low", "row")

    @property
    def entropy_rate(self) -> float:
        """The lowest reachable loss, in nats per character.

        A word costs the logarithm of their number, whatever its letters are, since the space says
        where it ends; that cost is shared by its characters and the space.
        """
        characters = sum(len(word) + 1 for word in self.words) / len(self.words)
        return math.log(len(self.words)) / characters

    def sample(self, count: int, seed: int = 0) -> str:
        """Returns `count` words."""
        drawn = np.random.default_rng(seed).integers(len(self.words), size=count)
        return "".join(self.words[number] + " " for number in drawn)
