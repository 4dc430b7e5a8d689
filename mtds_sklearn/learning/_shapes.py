"""The distribution of one latent coordinate, averaged over what its shape may be.

Given its shape a coordinate is a two-piece generalised normal (Fernandez & Steel 1998; Subbotin
1923), mixed with a little of the standard normal, so that no new sequence is impossible:

    p(r | shape) = (1 - FLOOR) exp(-u^b) / ((s1 + s2) Gamma(1 + 1/b)) + FLOOR N(r; 0, 1),
    u = (location - r) / s1 left of the location, (r - location) / s2 right of it,
    s1, s2 = sqrt(2) exp(log scales),  b = 2 exp(log power).

It is N(0, 1) when all four parameters are zero; unequal scales skew it, and a large power makes it
uniform. The parameters have the prior N(0, I), and sequence i, with q_i = N(mean_i, std_i^2) its
posterior under N(r; 0, 1), has the likelihood E_{q_i}[p(r | shape) / N(r; 0, 1)]. With few
sequences many shapes are likely, and a forecast that takes the best of them for the truth is too
sure. So the coordinate gets the posterior predictive distribution

    p(r) = integral of p(r | shape) p(shape | sequences).

For the location and scale of a normal this is Student's t; here the average is over importance
samples of the shape.
"""

from functools import cache

import numpy as np
from scipy.integrate import cumulative_trapezoid
from scipy.special import gammaln, ndtri
from scipy.stats import chi2
from scipy.stats.qmc import Sobol

from mtds_sklearn._sequences import frozen
from mtds_sklearn.model._latent_prior import FARTHEST, NODES, log_normal_density

FLOOR = 0.05
QUADRATURE_NODES = 5
# Newton's method for the most likely shape: step of differences (wide: the likelihood has kinks),
# iterations, halvings of a step.
DIFFERENCE, NEWTON_STEPS, HALVINGS = 0.05, 30, 12
# Importance sampling of shapes around it: draws of a round, and rounds.
N_DRAWS, N_ROUNDS, DEGREES_OF_FREEDOM = 256, 2, 6
# Values of densities that are held at once: few enough for the processor's cache.
MOST_VALUES = 30_000
# Logarithm of the smallest density, as far as arithmetic is fast.
MOST_DECAY = 700.0
# Draws of less than this share of the weight are left out of the average.
LEAST_WEIGHT = 1e-4
# Where the averaged density is computed: r = +-FARTHEST_R at most, closer together near zero.
FARTHEST_R, N_GRID = 20.0, 2001
# Rise by which a table of quantiles is made strictly increasing.
LEAST_SLOPE = 1e-6


def shape_density(r: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """p(r | shape) of r, broadcast against shapes (..., 4)."""
    return (1.0 - FLOOR) * np.exp(_two_piece(r, shape)) + FLOOR * np.exp(log_normal_density(r))


def _two_piece(r: np.ndarray, shape: np.ndarray) -> np.ndarray:
    """Log density of r without the floor, broadcast against shapes (..., 4)."""
    location, log_left, log_right, log_power = np.moveaxis(shape, -1, 0)
    left, right = np.sqrt(2.0) * np.exp(log_left), np.sqrt(2.0) * np.exp(log_right)
    power = 2.0 * np.exp(log_power)
    away = r - location
    out = away / right
    np.maximum(out, np.divide(away, -left, out=away), out=out)  # one of them is positive
    # Far out the power overflows; there only the floor is left.
    with np.errstate(over="ignore"):
        np.power(out, power, out=out)
    np.minimum(out, MOST_DECAY, out=out)
    return np.subtract(-np.log(left + right) - gammaln(1.0 + 1.0 / power), out, out=out)


def predictive_quantiles(
    mean: np.ndarray, std: np.ndarray, stretch: float = 1.0, weights: np.ndarray | None = None
) -> np.ndarray:
    """Quantiles of one coordinate at the probabilities Phi(NODES).

    Parameters
    ----------
    mean, std : ndarray of shape (n_sequences,)
        Posteriors of the sequences under N(0, 1).
    stretch : float
        Factor by which the coordinate is wider than it seems.
    weights : ndarray of shape (n_sequences,), optional
        How often each sequence counts.
    """
    shapes, probabilities = likely_shapes(mean, std, weights)
    grid = FARTHEST_R * np.sinh(np.linspace(-4.0, 4.0, N_GRID)) / np.sinh(4.0)
    kept = probabilities > LEAST_WEIGHT
    shapes, probabilities = shapes[kept], probabilities[kept]
    density = sum(
        probabilities[some] @ shape_density(grid, shapes[some, None])
        for some in _parts(len(shapes), N_GRID)
    )
    return stretch * quantiles_of(grid, density)


def _parts(n_shapes: int, size: int) -> list[slice]:
    """Which shapes are worked on together, each with so many values."""
    at_once = max(1, MOST_VALUES // size)
    return [slice(first, first + at_once) for first in range(0, n_shapes, at_once)]


def likely_shapes(mean: np.ndarray, std: np.ndarray, weights: np.ndarray | None = None) -> tuple:
    """Shapes (N_DRAWS, 4), and their probabilities given the posteriors of the sequences."""
    nodes, share = np.polynomial.hermite_e.hermegauss(QUADRATURE_NODES)
    r = mean[:, None] + std[:, None] * nodes
    log_old, share = log_normal_density(r), share / share.sum()
    weights = np.ones(len(r)) if weights is None else weights

    def some(shapes):
        ratio = np.exp(_two_piece(r, shapes[:, None, None]) - log_old) @ share
        log_likelihood = np.log(FLOOR + (1.0 - FLOOR) * ratio) @ weights
        return log_likelihood - 0.5 * np.sum(shapes**2, axis=1)

    def log_posterior(shapes):
        return np.concatenate([some(shapes[part]) for part in _parts(len(shapes), r.size)])

    return _sample(log_posterior, *_mode(log_posterior))


def _mode(log_posterior) -> tuple:
    """The most likely shape (4,), and the inverse curvature (4, 4) there.

    Ascended until only rounding is left, so that what follows is a smooth function of the data.
    """
    shape, lengths = np.zeros(4), 0.5 ** np.arange(HALVINGS)[:, None]
    for _ in range(NEWTON_STEPS):
        gradient, curvature = _derivatives(log_posterior, shape)
        variance, axes = np.linalg.eigh(curvature)
        # Away from the mode the curvature may have either sign; the prior alone has 1.
        inverse = (axes / np.maximum(np.abs(variance), 0.5)) @ axes.T
        step = inverse @ gradient
        trials = shape + lengths * step / max(1.0, np.linalg.norm(step))
        values = log_posterior(np.vstack([shape, trials]))
        best = np.argmax(values[1:])
        if values[1 + best] <= values[0]:
            break
        shape = trials[best]
    return shape, inverse


def _derivatives(function, x: np.ndarray) -> tuple:
    """Gradient, and minus the Hessian, by central differences in one call."""
    first, second = np.triu_indices(len(x))
    unit = DIFFERENCE * np.eye(len(x))
    signs = np.array([[1.0, 1.0], [1.0, -1.0], [-1.0, 1.0], [-1.0, -1.0]])
    steps = signs[:, 0, None, None] * unit[first] + signs[:, 1, None, None] * unit[second]
    ends = np.stack([unit, -unit])
    values = function(x + np.vstack([*ends, *steps]))
    up, down = values[: 2 * len(x)].reshape(2, -1)
    corners = values[2 * len(x) :].reshape(4, -1)
    curvature = np.empty((len(x), len(x)))
    mixed = -(corners[0] - corners[1] - corners[2] + corners[3]) / (4.0 * DIFFERENCE**2)
    curvature[first, second] = curvature[second, first] = mixed
    return (up - down) / (2.0 * DIFFERENCE), curvature


def _sample(log_posterior, centre: np.ndarray, cov: np.ndarray) -> tuple:
    """Student t draws and their weights; the moments of one round shape the next."""
    t, log_proposal = _student_draws()
    for _ in range(N_ROUNDS):
        # No direction has no width, or is much wider than under the prior.
        variance, axes = np.linalg.eigh(cov)
        shapes = centre + t @ (axes * np.sqrt(np.clip(variance, 1e-4, 2.0))) @ axes.T
        log_weights = log_posterior(shapes) - log_proposal
        weights = np.exp(log_weights - log_weights.max())
        weights /= weights.sum()
        centre = weights @ shapes
        cov = (shapes - centre).T @ (weights[:, None] * (shapes - centre))
    return shapes, weights


@cache
def _student_draws() -> tuple[np.ndarray, np.ndarray]:
    """Quasi-random Student t draws (N_DRAWS, 4), and their log density but for a constant."""
    uniform = np.clip(Sobol(5, rng=np.random.default_rng(0)).random(N_DRAWS), 1e-9, 1.0 - 1e-9)
    scale = np.sqrt(DEGREES_OF_FREEDOM / chi2.ppf(uniform[:, 4], DEGREES_OF_FREEDOM))
    t = ndtri(uniform[:, :4]) * scale[:, None]
    half = 0.5 * (DEGREES_OF_FREEDOM + 4)
    return frozen(t), frozen(-half * np.log1p(np.sum(t**2, axis=1) / DEGREES_OF_FREEDOM))


def quantiles_of(r: np.ndarray, density: np.ndarray) -> np.ndarray:
    """Quantiles at the probabilities Phi(NODES) of a density tabulated at r."""
    below = cumulative_trapezoid(density, r, initial=0.0)
    above = -cumulative_trapezoid(density[::-1], r[::-1], initial=0.0)[::-1]
    total = below[-1]
    # Each tail by its own sum: the other's rounding would drown it.
    with np.errstate(divide="ignore"):
        v = np.where(below < above, ndtri(below / total), -ndtri(above / total))
    inside = np.flatnonzero(np.abs(v) < FARTHEST + 1.0)
    return np.interp(NODES, v[inside], r[inside]) + LEAST_SLOPE * NODES
