"""Baselines of sequence tasks without word order: majority class, bag of words, word by word."""

import collections
from collections.abc import Sequence

import numpy as np

from jaxlabs.data.sequence_data import Splits
from jaxlabs.data.sequence_files import Pair
from jaxlabs.labs.sequence_patterns.sequence_scores import bleu, exact_match, tag_span_f1

MAX_COUNTED, MAX_FITTED = 20_000, 5000
"""Training pairs for word counts, and for fitting a softmax regression."""

MAX_WEIGHTS = 300_000
"""Regressions with more weights are skipped."""


def baselines(task: str, splits: Splits) -> dict[str, float]:
    """Returns the scores of the baselines on `test` and `long`, by split and name.

    next_word and sentiment: `majority_accuracy` of the most frequent label, and
    `bag_of_words_accuracy` of a softmax regression on word counts; next_word also
    `last_word_accuracy` of the most frequent successor of the last word. tagging:
    `word_alone_span_f1` of every word's most frequent tag, and `bag_of_words_span_f1` of a
    regression on the word and the word counts of its sentence. translation:
    `word_for_word_exact_match` and `word_for_word_bleu` of replacing every word by the target word
    with the highest Dice coefficient.
    """
    train = splits["train"][:MAX_COUNTED]
    scores, predictors = {"accuracy": exact_match}, {}
    if task == "tagging":
        scores, predictors = {"span_f1": tag_span_f1}, _tag_predictors(train)
    elif task == "translation":
        scores, predictors = {"exact_match": exact_match, "bleu": bleu}, _translator(train)
    else:
        predictors = _label_predictors(train)
        if task == "next_word":
            predictors["last_word"] = _most_frequent_by(train, lambda source: source[-1])
    metrics = {}
    for split in ("test", "long"):
        if splits.get(split):
            sources, targets = zip(*splits[split], strict=True)
            for name, predict in predictors.items():
                predicted = predict(sources)
                for score, function in scores.items():
                    metrics[f"{split}_{name}_{score}"] = function(predicted, targets)
    return metrics


def _label_predictors(train: list[Pair]) -> dict:
    sources, labels = zip(*train, strict=True)
    predictors = {"majority": _most_frequent_by(train, lambda source: None)}
    words = _columns(sources)
    fitted = _regression(_word_counts(sources[:MAX_FITTED], words), labels[:MAX_FITTED])
    if fitted is not None:
        predictors["bag_of_words"] = lambda sources: fitted(_word_counts(sources, words))
    return predictors


def _tag_predictors(train: list[Pair]) -> dict:
    alone = [
        ((word,), (tag,)) for source, tags in train for word, tag in zip(source, tags, strict=True)
    ]
    most_frequent = _most_frequent_by(alone, lambda source: source[0])

    def word_alone(sources: Sequence) -> list:
        return [[most_frequent([(word,)])[0][0] for word in source] for source in sources]

    predictors = {"word_alone": word_alone}
    sources, tags = zip(*train[: MAX_FITTED // 2], strict=True)
    words = _columns(source for source, _ in train)
    labels = [(tag,) for of_source in tags for tag in of_source]
    fitted = _regression(_words_and_counts(sources, words), labels)

    def around(sources: Sequence) -> list:
        flat = iter(fitted(_words_and_counts(sources, words)))
        return [[next(flat)[0] for _ in source] for source in sources]

    return predictors | ({} if fitted is None else {"bag_of_words": around})


def _translator(train: list[Pair]) -> dict:
    """Pairs words by the Dice coefficient of their occurrence in sentence pairs."""
    joint, left, right = collections.Counter(), collections.Counter(), collections.Counter()
    for source, target in train:
        left.update(set(source))
        right.update(set(target))
        joint.update((s, t) for s in set(source) for t in set(target))
    best: dict[str, tuple[float, str]] = {}
    for (s, t), count in joint.items():
        best[s] = max(best.get(s, (0.0, "")), (2 * count / (left[s] + right[t]), t))
    word = {source: target for source, (_, target) in best.items()}
    return {"word_for_word": lambda sources: [[word[s] for s in x if s in word] for x in sources]}


def _most_frequent_by(train: list[Pair], key):
    counts: dict = collections.defaultdict(collections.Counter)
    for source, target in train:
        counts[key(source)][target] += 1
    totals: collections.Counter = collections.Counter()
    for count in counts.values():
        totals.update(count)
    overall = totals.most_common(1)[0][0]
    most_frequent = {name: count.most_common(1)[0][0] for name, count in counts.items()}
    return lambda sources: [most_frequent.get(key(source), overall) for source in sources]


def _columns(sources) -> dict[str, int]:
    return {word: i for i, word in enumerate(sorted({w for source in sources for w in source}))}


def _word_counts(sources: Sequence, words: dict[str, int]):
    """Returns word counts [sources, words + 1], a sparse matrix with a last column of ones."""
    import scipy.sparse

    rows = [row for row, source in enumerate(sources) for word in source if word in words]
    columns = [words[word] for source in sources for word in source if word in words]
    shape = (len(sources), len(words))
    counts = scipy.sparse.csr_matrix((np.ones(len(rows)), (rows, columns)), shape)
    return scipy.sparse.hstack([counts, np.ones((len(sources), 1))], "csr")


def _words_and_counts(sources: Sequence, words: dict[str, int]):
    import scipy.sparse

    own = _word_counts([(word,) for source in sources for word in source], words)
    sentence = np.repeat(np.arange(len(sources)), [len(source) for source in sources])
    return scipy.sparse.hstack([own, _word_counts(sources, words)[sentence]], "csr")


def _regression(features, labels: Sequence):
    """Fits a softmax regression; returns `features -> labels`, or None where it is too large."""
    import scipy.optimize
    import scipy.sparse
    import scipy.special

    names = sorted(set(labels))
    number_of = {label: number for number, label in enumerate(names)}
    targets = np.array([number_of[label] for label in labels])
    count, columns = features.shape
    if columns * len(names) > MAX_WEIGHTS:
        return None
    one_hot = scipy.sparse.csr_matrix((np.ones(count), (np.arange(count), targets)))
    l2_penalty = 1e-4  # keeps the weights of separable data finite

    def loss(flat: np.ndarray) -> tuple[float, np.ndarray]:
        weights = flat.reshape(columns, -1)
        logs = scipy.special.log_softmax(features @ weights, axis=1)
        gradient = features.T @ (np.exp(logs) - one_hot) / count + l2_penalty * weights
        value = -logs[np.arange(count), targets].mean() + l2_penalty / 2 * (flat @ flat)
        return value, np.asarray(gradient).ravel()

    start, options = np.zeros(columns * len(names)), {"jac": True, "options": {"maxiter": 60}}
    result = scipy.optimize.minimize(loss, start, method="L-BFGS-B", **options)
    weights = result.x.reshape(columns, -1)
    return lambda features: [names[i] for i in np.asarray(features @ weights).argmax(axis=1)]
