"""How far one gets without reading sentences in order: what stands beside the models' scores."""

import collections
from collections.abc import Sequence

import numpy as np
import scipy.optimize
import scipy.sparse
import scipy.special

from jaxlabs.analysis.sequence_scores import bleu, exact_match, tag_span_f1
from jaxlabs.data.sequence_data import Splits
from jaxlabs.data.sequence_files import Pair

MAX_COUNTED, MAX_FITTED = 20_000, 5000
"""Training pairs whose words are counted, and to which a regression is fitted."""

MAX_WEIGHTS = 300_000
"""A regression with more weights (a user's file with many words) is left out."""


def baselines(task: str, splits: Splits) -> dict[str, float]:
    """Returns the scores on test and longer of whoever counts words, by split and name.

    next_word and sentiment: `majority_accuracy` of always naming the most frequent label, and
    `bag_of_words_accuracy` of a softmax regression on how often each word occurs; next_word also
    `last_word_accuracy`, of the likeliest follower of the last word. tagging: `word_alone_span_f1`
    of every word's most frequent tag, and `bag_of_words_span_f1` of a regression on the word and
    the words around it in no order. translation: `word_for_word_exact_match` and
    `word_for_word_bleu` of replacing every word by the one that it most often meets.
    """
    train = splits["train"][:MAX_COUNTED]
    guessers = {
        "next_word": _label_guessers,
        "sentiment": _label_guessers,
        "tagging": _tag_guessers,
        "translation": _translation_guessers,
    }[task](train)
    if task == "next_word":
        guessers["last_word"] = _most_frequent_by(train, lambda source: source[-1])
    figures = {}
    for split in ("test", "longer"):
        sources, targets = zip(*splits.get(split, []), strict=True) if split in splits else ((), ())
        for name, guess in guessers.items() if sources else ():
            for score, value in _scores(task, guess(sources), targets).items():
                figures[f"{split}_{name}_{score}"] = value
    return figures


def _scores(task: str, guesses: list, targets: Sequence) -> dict[str, float]:
    if task == "tagging":
        return {"span_f1": tag_span_f1(guesses, targets)}
    if task == "translation":
        return {"exact_match": exact_match(guesses, targets), "bleu": bleu(guesses, targets)}
    return {"accuracy": exact_match(guesses, targets)}


def _label_guessers(train: list[Pair]) -> dict:
    sources, labels = zip(*train, strict=True)
    guessers = {"majority": _most_frequent_by(train, lambda source: None)}
    words = _columns(sources)
    fitted = _regression(_bags(sources[:MAX_FITTED], words), labels[:MAX_FITTED])
    if fitted is not None:
        guessers["bag_of_words"] = lambda sources: fitted(_bags(sources, words))
    return guessers


def _tag_guessers(train: list[Pair]) -> dict:
    alone = [((word,), (tag,)) for source, tags in train for word, tag in zip(source, tags)]  # noqa: B905
    likeliest = _most_frequent_by(alone, lambda source: source[0])

    def word_alone(sources: Sequence) -> list:
        return [[likeliest([(word,)])[0][0] for word in source] for source in sources]

    guessers = {"word_alone": word_alone}
    some = train[: MAX_FITTED // 2]
    words = _columns(source for source, _ in train)
    fitted = _regression(
        _words_and_bags([source for source, _ in some], words),
        [(tag,) for _, tags in some for tag in tags],
    )

    def around(sources: Sequence) -> list:
        flat = iter(fitted(_words_and_bags(sources, words)))
        return [[next(flat)[0] for _ in source] for source in sources]

    return guessers | ({} if fitted is None else {"bag_of_words": around})


def _translation_guessers(train: list[Pair]) -> dict:
    """Pairs words by Dice's coefficient: twice how often they meet over how often both occur."""
    meet, left, right = collections.Counter(), collections.Counter(), collections.Counter()
    for source, target in train:
        left.update(set(source))
        right.update(set(target))
        meet.update((s, t) for s in set(source) for t in set(target))
    best: dict[str, tuple[float, str]] = {}
    for (s, t), count in meet.items():
        best[s] = max(best.get(s, (0.0, "")), (2 * count / (left[s] + right[t]), t))
    return {
        "word_for_word": lambda sources: [[best[s][1] for s in one if s in best] for one in sources]
    }


def _most_frequent_by(train: list[Pair], key):
    counts: dict = collections.defaultdict(collections.Counter)
    for source, target in train:
        counts[key(source)][target] += 1
    totals: collections.Counter = collections.Counter()
    for count in counts.values():
        totals.update(count)
    overall = totals.most_common(1)[0][0]
    likeliest = {name: count.most_common(1)[0][0] for name, count in counts.items()}
    return lambda sources: [likeliest.get(key(source), overall) for source in sources]


def _columns(sources) -> dict[str, int]:
    return {word: i for i, word in enumerate(sorted({w for source in sources for w in source}))}


def _bags(sources: Sequence, words: dict[str, int]) -> scipy.sparse.csr_matrix:
    """Returns how often each word occurs, [sources, words + 1], with a column of ones."""
    rows = [row for row, source in enumerate(sources) for word in source if word in words]
    columns = [words[word] for source in sources for word in source if word in words]
    shape = (len(sources), len(words))
    counts = scipy.sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape)
    return scipy.sparse.hstack([counts, np.ones((len(sources), 1))], "csr")


def _words_and_bags(sources: Sequence, words: dict[str, int]) -> scipy.sparse.csr_matrix:
    own = _bags([(word,) for source in sources for word in source], words)
    sentence = np.repeat(np.arange(len(sources)), [len(source) for source in sources])
    return scipy.sparse.hstack([own, _bags(sources, words)[sentence]], "csr")


def _regression(features: scipy.sparse.csr_matrix, labels: Sequence):
    """Fits a softmax regression; returns `features -> labels`, or None where it is too large."""
    names = sorted(set(labels))
    number_of = {label: number for number, label in enumerate(names)}
    numbers = np.array([number_of[label] for label in labels])
    count, width = features.shape
    if width * len(names) > MAX_WEIGHTS:
        return None
    right = scipy.sparse.csr_matrix((np.ones(count), (np.arange(count), numbers)))
    shrink = 1e-4  # keeps separable data finite

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(width, -1)
        logs = scipy.special.log_softmax(features @ weights, axis=1)
        gradient = features.T @ (np.exp(logs) - right) / count + shrink * weights
        value = -logs[np.arange(count), numbers].mean() + shrink / 2 * (flat @ flat)
        return value, np.asarray(gradient).ravel()

    start = np.zeros(width * len(names))
    found = scipy.optimize.minimize(
        loss, start, jac=True, method="L-BFGS-B", options={"maxiter": 60}
    )
    weights = found.x.reshape(width, -1)
    return lambda features: [names[i] for i in np.asarray(features @ weights).argmax(axis=1)]
