"""Pen-and-paper problems of deep learning: what is given, and what the write-up prints as answers.

What is marked `SOURCE` is the homework's own; where it states a claim without numbers, what is
marked `CHOSEN` puts it into numbers. Answers are computed elsewhere, never typed in.
"""

SOURCE = "an unpublished homework of a deep-learning course"
CHOSEN = "chosen here, to put a claim of the homework into numbers"

Row = tuple[float, ...]
Matrix = tuple[Row, ...]

IDENTITY: Matrix = ((1, 0), (0, 1))
SWAP: Matrix = ((0, 1), (1, 0))

# Attention by hand (SOURCE); d_k is the number of columns.
QUERY, KEY, VALUE = IDENTITY, ((1, 1), (1, 0)), ((2, 0), (0, 1))
PRINTED_SCORES: Matrix = ((1, 1), (1, 0))
PRINTED_WEIGHTS: Matrix = ((0.5, 0.5), (0.670, 0.330))
PRINTED_OUTPUT: Matrix = ((1, 0.5), (1.340, 0.330))

# Two heads (SOURCE): per head the projections to queries, keys and values.
TWO_HEADS_INPUT = IDENTITY
TWO_HEADS: tuple[tuple[Matrix, Matrix, Matrix], ...] = (
    (IDENTITY, ((1, 0), (1, 1)), IDENTITY),
    (SWAP, ((1, 1), (0, 1)), SWAP),
)
PRINTED_TWO_HEADS: Matrix = ((0.5, 0.5, 0.5, 0.5), (0.3302, 0.6698, 0.3302, 0.6698))

# Weights whose variance tells how sharp they are (SOURCE): name -> (weights, printed variance).
SHARPNESS: dict[str, tuple[Row, float]] = {
    "even": ((0.25, 0.25, 0.25, 0.25), 0.0),
    "sharp": ((0.97, 0.01, 0.01, 0.01), 0.18),
    "one-hot": ((1.0, 0.0, 0.0, 0.0), 0.1875),
}

# One key stands out by a deviation of its dot, which is the root of this d_k; CHOSEN.
LARGE_D_K, KEYS = 64, 4

# Two updates by SGD and by momentum (SOURCE).
START, RATE, MOMENTUM = 1.0, 0.1, 0.9
GRADIENTS: Row = (0.4, -0.2)
PRINTED_SGD: Row = (0.96, 0.98)
PRINTED_MOMENTUM: Row = (0.96, 0.944)
PRINTED_VELOCITIES: Row = (-0.04, -0.016)

# A ravine: half the sum of curvature times squared distance (CHOSEN).
RAVINE_CURVATURES: Row = (1.0, 25.0)
RAVINE_START: Row = (10.0, 1.0)
RAVINE_STEPS = 30

# The scalar network of `analysis.two_step_rnn` (SOURCE): rate -> the weight after one update.
PRINTED_GRADIENT = -3.2
PRINTED_UPDATES: dict[float, float] = {0.1: 0.62, 1.0: 3.5, 3.0: 9.9}
UPDATES = 5
OTHER_FIRST_STATE = 1.0  # CHOSEN: the homework starts at 0, where a dropped term does not show

# Batch normalisation, one statistic an entry (SOURCE): four samples, two to test on.
SAMPLES: tuple[Matrix, ...] = (
    ((1, 5, 3), (7, 2, 8)),
    ((4, 5, 9), (3, 5, 7)),
    ((2, 8, 4), (6, 3, 5)),
    ((9, 1, 6), (4, 9, 2)),
)
TEST_SAMPLES: tuple[Matrix, ...] = (((3, 4, 6), (5, 4, 7)), ((8, 7, 5), (6, 8, 3)))
STATED_ENTRY = (0, 1)
PRINTED_MEAN, PRINTED_VARIANCE = 5.0, 6.5
MISPRINT = (1, 0, 1)  # this number of the samples ...
MEANT = 6.0  # ... gives the printed mean and variance exactly when it is this one (CHOSEN)

# Contrastive learning (CHOSEN; the homework has formulas): cosines of three images and three texts.
COSINES: Matrix = ((0.9, 0.3, -0.2), (0.1, 0.7, 0.5), (0.4, -0.1, 0.8))
TEMPERATURE = 0.5
TEMPERATURES: Row = (0.07, 0.2, 1.0)
SIGLIP_SCALE, SIGLIP_BIAS = 10.0, -10.0  # Zhai et al. 2023, at the start of training
RAISED, RAISED_BY = (2, 1), 0.5  # one cosine, and what it is raised by

# The softmax of multiples of one vector (SOURCE): factor -> the last share as printed, if it is on
# record.
LOGITS: Row = (1, 2, 3)
PRINTED_LAST_SHARE: dict[int, float | None] = {1: None, 2: None, 3: 0.98}

# Bayes' rule for two classes with normal densities (CHOSEN).
PRIORS: Row = (0.3, 0.7)
MEANS: Row = (0.0, 2.0)
DEVIATIONS: Row = (1.0, 1.5)
OBSERVED = 1.0

# The ELBO of z ~ N(0, 1), x ~ N(z, noise^2), q(z|x) = N(mean, deviation^2) (CHOSEN).
ELBO_OBSERVED, NOISE = 1.5, 0.7
POSTERIOR_GUESS: Row = (0.5, 0.6)
