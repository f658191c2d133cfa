"""Worked problems of deep learning: their inputs, and the answers printed in the write-up.

SOURCE marks inputs of an unpublished homework of a deep-learning course; CHOSEN marks inputs chosen
here for claims that it states without numbers. Printed values are strings, because their digits
give the rounding; one without decimals is exact. Exact values are computed elsewhere; a comment
gives the correct value where a printed one is wrong.
"""

from typing import NamedTuple

IDENTITY, SWAP = ((1, 0), (0, 1)), ((0, 1), (1, 0))

# Scaled dot-product attention (SOURCE); d_k is the number of columns.
QUERY, KEY, VALUE = IDENTITY, ((1, 1), (1, 0)), ((2, 0), (0, 1))
PRINTED_SCORES = (("1", "1"), ("1", "0"))
PRINTED_WEIGHTS = (("0.5", "0.5"), ("0.670", "0.330"))
PRINTED_OUTPUT = (("1", "0.5"), ("1.340", "0.330"))
# The last weight is written with the denominator e^(1/sqrt(2)) + e^(1/sqrt(2)), which gives 0.247;
# 0.330 is correct, and is 1 / (e^(1/sqrt(2)) + 1).

# Two heads (SOURCE): per head the projections to queries, keys and values.
TWO_HEADS_INPUT = IDENTITY
TWO_HEADS = (
    (IDENTITY, ((1, 0), (1, 1)), IDENTITY),
    (SWAP, ((1, 1), (0, 1)), SWAP),
)
PRINTED_TWO_HEADS = (
    ("0.5", "0.5", "0.5", "0.5"),
    ("0.3302", "0.6698", "0.3302", "0.6698"),
)

# Weights whose variance measures their sharpness (SOURCE): name -> (weights, printed variance).
SHARPNESS = {
    "even": ((0.25, 0.25, 0.25, 0.25), "0"),
    "sharp": ((0.97, 0.01, 0.01, 0.01), "0.18"),  # 0.1728
    "one-hot": ((1.0, 0.0, 0.0, 0.0), "0.1875"),
}

# One key's score is larger by one standard deviation, the square root of this d_k (CHOSEN).
LARGE_D_K, KEYS = 64, 4

# Two updates by SGD and by momentum (SOURCE).
START, RATE, MOMENTUM = 1.0, 0.1, 0.9
GRADIENTS = (0.4, -0.2)
PRINTED_SGD = ("0.96", "0.98")
PRINTED_MOMENTUM = ("0.96", "0.944")
PRINTED_VELOCITIES = ("-0.04", "-0.016")

# A ravine: half the sum of curvature times squared distance (CHOSEN).
RAVINE_CURVATURES = (1.0, 25.0)
RAVINE_START = (10.0, 1.0)
RAVINE_STEPS = 30

# The scalar network of `analysis.two_step_rnn` (SOURCE): rate -> the weight after one update.
PRINTED_GRADIENT = "-3.2"
PRINTED_UPDATES = {0.1: "0.62", 1.0: "3.5", 3.0: "9.9"}
UPDATES = 5
PRINTED_SLOPE = "2"  # dh2/dw_h, from h0 = 0
OTHER_FIRST_STATE = 1.0  # CHOSEN: the homework starts at 0, where the recurrence's term is 0

# Batch normalization, one statistic an entry (SOURCE): four samples, two to test on.
SAMPLES = (
    ((1, 5, 3), (7, 2, 8)),
    ((4, 5, 9), (3, 5, 7)),
    ((2, 8, 4), (6, 3, 5)),
    ((9, 1, 6), (4, 9, 2)),
)
TEST_SAMPLES = (((3, 4, 6), (5, 4, 7)), ((8, 7, 5), (6, 8, 3)))
STATED_ENTRY = (0, 1)
PRINTED_MEAN, PRINTED_VARIANCE = "5.0", "6.5"
MISPRINT = (1, 0, 1)  # this number of the samples ...
MEANT = 6.0  # ... gives the printed mean and variance exactly when it is this one (CHOSEN)
# The table of normalized values. 15 of these 24 are wrong in the fourth decimal, 0.0932 only just
# (0.09325048), and two of the six of the test sample (correct: -0.3244 and 0.6547).
PRINTED_NORMALIZED = (
    (("-0.9735", "0", "-1.0910"), ("1.2649", "-1.0261", "1.0910")),
    (("0", "0.3922", "1.5274"), ("-1.2649", "0.0932", "0.6546")),
    (("-0.6490", "1.1766", "-0.6546"), ("0.6325", "-0.6529", "-0.2182")),
    (("1.6225", "-1.5688", "0.2182"), ("-0.6325", "1.5855", "-1.5274")),
)
PRINTED_NORMALIZED_TEST = (
    (("-0.3245", "-0.3922", "0.2182"), ("0", "-0.2798", "0.6546")),
    None,  # not on record
)
PRINTED_IN_TEXT = "-0.9733"  # the first of these values again, correct there

# Contrastive learning (CHOSEN; the homework has formulas): cosines of three images and three texts.
COSINES = ((0.9, 0.3, -0.2), (0.1, 0.7, 0.5), (0.4, -0.1, 0.8))
TEMPERATURE = 0.5
TEMPERATURES = (0.07, 0.2, 1.0)
SIGLIP_SCALE, SIGLIP_BIAS = 10.0, -10.0  # Zhai et al. 2023, at the start of training
RAISED, RAISED_BY = (2, 1), 0.5  # one cosine, and its increase

# The softmax of multiples of one vector (SOURCE): factor -> the shares.
LOGITS = (1, 2, 3)
PRINTED_SHARES = {
    1: ("0.09", "0.24", "0.67"),
    2: ("0.02", "0.12", "0.86"),  # 0.0159, 0.1173, 0.8668
    3: ("0.00", "0.02", "0.98"),  # 0.0024, 0.0473, 0.9503
}

# Bayes' rule for two classes with normal densities (CHOSEN).
PRIORS = (0.3, 0.7)
MEANS = (0.0, 2.0)
DEVIATIONS = (1.0, 1.5)
OBSERVED = 1.0

# The ELBO of z ~ N(0, 1), x ~ N(z, noise^2), q(z|x) = N(mean, deviation^2) (CHOSEN).
ELBO_OBSERVED, NOISE = 1.5, 0.7
POSTERIOR_GUESS = (0.5, 0.6)


class Statement(NamedTuple):
    """A statement of the homework in words or symbols, shortened, and the correct one."""

    theme: str
    printed: str
    correct: str
    error: bool = True


_NETWORK, _RECURRENCE, _ELBO = "a two-step network", "recurrence", "the ELBO"

# Statements (SOURCE) without a single value.
STATEMENTS = (
    Statement(
        _NETWORK,
        "dh2/dw_h = 2",
        "Correct for h0 = 0 as in the problem. In general it is h1 + w_h h0; section 2.3 of the"
        " homework has the full recurrence.",
        error=False,
    ),
    Statement(
        _NETWORK,
        "At rate 0.1 the first step overshoots the minimum.",
        "Correct: 0.62 > 0.5. The steps still converge.",
        error=False,
    ),
    Statement(
        _NETWORK,
        "Rates of 1 and 3 might struggle to converge.",
        "Both diverge. A step multiplies the distance from the minimum by 1 - 16 rate, which is"
        " -15 and -47; the limit is the rate 0.125.",
    ),
    Statement(_NETWORK, "w_x = 0.5 when trained.", "It is w_h that is 0.5 when trained."),
    Statement(
        _RECURRENCE,
        "The unrolled recurrence has h(t-3) twice.",
        "The fourth is h(t-4): one step further back for every factor w.",
    ),
    Statement(
        _RECURRENCE,
        "The gradient explodes for w > 1 and vanishes for w < 1.",
        "It explodes for |w| > 1 and vanishes for |w| < 1: at w = -2 it explodes.",
    ),
    Statement(
        _ELBO,
        "log p(x) times the integral of q(z|x), without dz.",
        "log p(x) times the integral of q(z|x) dz, which is 1.",
    ),
    Statement(
        _ELBO,
        "A bracket of the ELBO is opened and never closed.",
        "All brackets closed: E_q[log p(x|z)] - KL(q(z|x) || p(z)).",
    ),
)
