"""Closed forms for the worked problems in plain Python on lists, without array libraries."""

import math
from collections.abc import Sequence
from fractions import Fraction

Vector = Sequence[float]
Matrix = Sequence[Vector]


def softmax(scores: Vector) -> list[float]:
    """Returns `exp(s) / sum exp(s)`."""
    powers = [math.exp(score) for score in scores]
    return [power / math.fsum(powers) for power in powers]


def dot(left: Vector, right: Vector) -> float:
    """Returns the dot product of two vectors."""
    return math.fsum(a * b for a, b in zip(left, right, strict=True))


def product(left: Matrix, right: Matrix) -> list[list[float]]:
    """Returns the matrix product."""
    return [[dot(row, column) for column in zip(*right, strict=True)] for row in left]


def transposed(matrix: Matrix) -> list[list[float]]:
    """Returns the transposed matrix."""
    return [list(column) for column in zip(*matrix, strict=True)]


def mean_and_variance(values: Vector) -> tuple[float, float]:
    """Returns mean and population variance, computed with exact fractions."""
    fractions = [Fraction(str(value)) for value in values]
    mean = sum(fractions) / len(fractions)
    return float(mean), float(sum((value - mean) ** 2 for value in fractions) / len(fractions))


def attention(query: Matrix, key: Matrix, value: Matrix, scale: float) -> dict[str, list]:
    """Returns `scores` (raw), `weights` and `output` of one head."""
    scores = product(query, transposed(key))
    weights = [softmax([score * scale for score in row]) for row in scores]
    return {"scores": scores, "weights": weights, "output": product(weights, value)}


def softmax_jacobian_norm(probabilities: Vector) -> float:
    """Returns the Frobenius norm of `diag(p) - p p^T`, computed without cancellation.

    The diagonal entry `p (1 - p)` is p times the sum of the other probabilities.
    """
    squares = []
    for index, p in enumerate(probabilities):
        others = [other for i, other in enumerate(probabilities) if i != index]
        squares += [(p * math.fsum(others)) ** 2, *((p * other) ** 2 for other in others)]
    return math.sqrt(math.fsum(squares))


def entropy(probabilities: Vector) -> float:
    """Returns the entropy in nats."""
    return math.fsum(-p * math.log(p) for p in probabilities if p > 0)
