"""Three made-up speakers whose sentences overlap by known chances: the optimum is exact.

A sentence fills a row of slots, each with one of a few phrases, independently of each other; the
speakers differ in how likely each phrase is. So a sentence's probability is a product, there are
few enough sentences to enumerate, and the best possible accuracy and entropies are plain sums.
"""

import dataclasses
import functools
import itertools

import numpy as np

SLOTS = (
    ("tonight", "today", "tomorrow", "once again"),
    ("we", "my friends", "the people", "our children", "these nations", "all of us"),
    ("", "really", "always", "surely"),
    ("defend", "want", "build", "remember", "need", "choose"),
    ("freedom", "peace", "new jobs", "good schools", "lower taxes", "a better world"),
    ("", "together", "with god", "in this century"),
)
"""Phrases by slot; an empty one makes the sentence shorter. A full stop ends every sentence."""


@dataclasses.dataclass(frozen=True, eq=False)
class SpeakerGrammar:
    """Speakers, each as likely as any other, who fill the same slots in their own ways.

    Attributes:
      chances: by slot, [speakers, phrases] float64, rows sum to 1.
    """

    chances: tuple[np.ndarray, ...]

    @classmethod
    def random(cls, speakers: int = 3, seed: int = 0) -> "SpeakerGrammar":
        """Returns speakers whose rows are drawn from a Dirichlet distribution."""
        draw = np.random.default_rng(seed).dirichlet
        # Concentration 1.5: six slots tell speakers apart about four times in five.
        return cls(tuple(draw(np.full(len(slot), 1.5), size=speakers) for slot in SLOTS))

    @functools.cached_property
    def likelihoods(self) -> np.ndarray:
        """The probability of each possible sentence from each speaker, [speakers, sentences]."""
        product = np.ones((len(self.chances[0]), 1))
        for chance in self.chances:
            product = (product[:, :, None] * chance[:, None, :]).reshape(len(chance), -1)
        return product

    @functools.cached_property
    def tokens(self) -> np.ndarray:
        """The number of words of each possible sentence, full stop included, [sentences]."""
        sizes = [[len(phrase.split()) for phrase in slot] for slot in SLOTS]
        return np.array([sum(choice) + 1 for choice in itertools.product(*sizes)])

    @property
    def bayes_accuracy(self) -> float:
        """How often the likeliest speaker is the right one: no classifier can do better."""
        return float(self.likelihoods.max(axis=0).sum() / self._speakers)

    @property
    def bayes_loss(self) -> float:
        """Mean of -log P(speaker | sentence) in nats: the lowest reachable classification loss."""
        shares = self.likelihoods / self.likelihoods.sum(axis=0)[None, :]
        return float(-(self.likelihoods * np.log(shares)).sum() / self._speakers)

    def cross_entropy(self, speaker: int | None = None) -> float:
        """Returns the loss, in nats a word, of whoever knows this grammar but not who speaks when.

        Sentences are drawn one by one and each ends with the only full stop in it, so the entropy
        rate of the text is that of a sentence over its mean length.

        Args:
          speaker: whose sentences are read; None for sentences of all in turn, drawn at random,
            for which this is the entropy rate and so the lowest reachable loss.
        """
        mixture = self.likelihoods.mean(axis=0)
        read = mixture if speaker is None else self.likelihoods[speaker]
        return float(-(read @ np.log(mixture)) / (read @ self.tokens))

    def sample(self, speakers: np.ndarray, generator: np.random.Generator) -> list[str]:
        """Returns one sentence of each of some speakers [count]."""
        filled = []
        for slot, chance in zip(SLOTS, self.chances, strict=True):
            border = np.cumsum(chance, axis=1)[speakers, :-1]
            chosen = (generator.random((len(speakers), 1)) > border).sum(axis=1)
            filled.append([slot[number] for number in chosen])
        return [" ".join(filter(None, phrases)) + "." for phrases in zip(*filled, strict=True)]

    @property
    def _speakers(self) -> int:
        return self.likelihoods.shape[0]
