"""A synthetic source of sentences of three speakers, with exact Bayes accuracy and entropies.

A sentence fills a sequence of slots with independent phrases; the speakers differ in the
probabilities of the phrases. The probability of a sentence is a product, all sentences can be
enumerated, and Bayes accuracy and entropies are sums over them.
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
"""Phrases by slot; an empty phrase shortens the sentence. A full stop ends every sentence."""


@dataclasses.dataclass(frozen=True, eq=False)
class SpeakerGrammar:
    """Equally likely speakers with phrase distributions of their own."""

    probabilities: tuple[np.ndarray, ...]  #: by slot, `[speakers, phrases]` float64, rows sum to 1

    @classmethod
    def random(cls, speakers: int = 3, seed: int = 0) -> "SpeakerGrammar":
        """Returns speakers with Dirichlet-distributed rows."""
        dirichlet = np.random.default_rng(seed).dirichlet
        # Concentration 1.5: the Bayes accuracy is about 80 %.
        return cls(tuple(dirichlet(np.full(len(slot), 1.5), size=speakers) for slot in SLOTS))

    @functools.cached_property
    def likelihoods(self) -> np.ndarray:
        """Probability of each possible sentence by speaker, `[speakers, sentences]`."""
        product = np.ones((len(self.probabilities[0]), 1))
        for rows in self.probabilities:
            product = (product[:, :, None] * rows[:, None, :]).reshape(len(rows), -1)
        return product

    @functools.cached_property
    def tokens(self) -> np.ndarray:
        """Number of tokens of each possible sentence, full stop included, `[sentences]`."""
        sizes = [[len(phrase.split()) for phrase in slot] for slot in SLOTS]
        return np.array([sum(choice) + 1 for choice in itertools.product(*sizes)])

    @property
    def bayes_accuracy(self) -> float:
        """Accuracy of the Bayes classifier, which predicts the most likely speaker."""
        return float(self.likelihoods.max(axis=0).sum() / self._speakers)

    @property
    def bayes_loss(self) -> float:
        """Mean of -log P(speaker | sentence) in nats: the lowest reachable classification loss."""
        posterior = self.likelihoods / self.likelihoods.sum(axis=0)[None, :]
        return float(-(self.likelihoods * np.log(posterior)).sum() / self._speakers)

    def cross_entropy(self, speaker: int | None = None) -> float:
        """Returns the cross-entropy of the speaker mixture, in nats per token.

        The evaluated sentences are those of one speaker; None: of random speakers, for which this
        is the entropy rate and so the lowest reachable loss. Sentences are independent and a full
        stop marks the end of each, so the entropy rate of the text is the entropy of a sentence
        over its mean length.
        """
        mixture = self.likelihoods.mean(axis=0)
        true = mixture if speaker is None else self.likelihoods[speaker]
        return float(-(true @ np.log(mixture)) / (true @ self.tokens))

    def sample(self, speakers: np.ndarray, rng: np.random.Generator) -> list[str]:
        """Returns one sentence of each of `speakers [count]`."""
        filled = []
        for slot, rows in zip(SLOTS, self.probabilities, strict=True):
            border = np.cumsum(rows, axis=1)[speakers, :-1]
            chosen = (rng.random((len(speakers), 1)) > border).sum(axis=1)
            filled.append([slot[index] for index in chosen])
        return [" ".join(filter(None, phrases)) + "." for phrases in zip(*filled, strict=True)]

    @property
    def _speakers(self) -> int:
        return self.likelihoods.shape[0]
