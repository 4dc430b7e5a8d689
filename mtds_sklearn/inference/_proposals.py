"""Where to draw: the first proposal of every sequence, and the next, fitted to weighted points."""

from typing import NamedTuple

import numpy as np

from mtds_sklearn.inference._mixture import (
    Mixture,
    beyond_rounding,
    blend,
    effective_sample_size,
    fit_mixture,
    make_mixture,
    systematic,
    tempered,
)
from mtds_sklearn.inference._modes import best_starts
from mtds_sklearn.inference._target import Target, local_quadratics
from mtds_sklearn.model._latent_prior import Components

# Starts of the climb to the modes: the best points at each temperature, and points of the posterior
# at the temperature at which so many are effective, every second one so many times as far out. The
# climb ends early: the fit to weighted points does the rest.
STARTS_PER_TEMPERATURE, SPREAD_STARTS, SPREAD_EFFECTIVE, FAR_OUT = 4, 24, 20.0, 2.0
CLIMB_STEPS, FIRST_DAMPING = 10, 1.0
# So many standard deviations of a component of the prior a mode may be from its centre.
FARTHEST_MODE = 5.0
# Of climbs from the centre of a component of the prior: a shortened step would leave a narrow one,
# a full one goes along it.
CENTRE_DAMPING = 1e-6
# Modes that become components, and the least share of the evidence, in nats below the greatest, of
# those that stay components in later proposals.
MOST_MODES, LIGHTEST_MODE = 16, 10.0
# Share that the modes divide by their Laplace evidence; the rest is divided equally, since the
# evidence of a curved mode can be far off.
EVIDENCE_SHARE = 0.7
LEAST_LOG_SHARE = -700.0  # a share that is not zero
# Effective draws of the prior at which they shape half of the first proposal, and the share of it
# below which they are left out.
HALF_TRUST, LEAST_TRUST = 20.0, 0.02
# Points that a proposal is fitted to.
FIT_POINTS = 2048
# Half width of the window of a component, in standard deviations of the cloud of points.
WINDOW_WIDTH = 2.0


class Fit(NamedTuple):
    """How a proposal is fitted to weighted points.

    Attributes
    ----------
    n_components : int
        Student t components, beside one at an extreme point.
    prior_weight : float
        Share of the draws that come from the prior.
    n_effective : float
        Weights are tempered until so many points are effective.
    reach : float
        Points count in proportion to (1 + d^2 / k)^reach, d their distance from the mean in
        standard deviations. 0 is the posterior itself, 1 the proposal that is best for its second
        moments: a far point makes much of a variance, and draws there are few.
    """

    n_components: int = 8
    prior_weight: float = 0.05
    n_effective: float = 300.0
    reach: float = 0.5


USUAL = Fit()


class Modes(NamedTuple):
    """Where the posteriors have their modes.

    Attributes
    ----------
    means : ndarray of shape (n_sequences, n_modes, k)
    covs : ndarray of shape (n_sequences, n_modes, k, k)
        Inverses of the curvature there.
    shares : ndarray of shape (n_sequences, n_modes)
        Of the evidence, by Laplace's method; the greatest come first, and 0 is no mode.
    """

    means: np.ndarray
    covs: np.ndarray
    shares: np.ndarray


def select_modes(modes: Modes | None, index: np.ndarray) -> Modes | None:
    """The modes of some of the sequences."""
    return None if modes is None else Modes(*(part[index] for part in modes))


def first_proposal(v: np.ndarray, log_weights: np.ndarray, target: Target) -> tuple:
    """Components at the modes, and at draws of the prior as far as these are effective.

    Parameters
    ----------
    v : ndarray of shape (n_sequences, k, n_points)
        Draws of the prior, the same for all sequences.
    log_weights : ndarray of shape (n_sequences, n_points)
        Their log likelihoods.

    Returns
    -------
    proposal : Mixture
    modes : Modes or None
        Those that later proposals should not leave out; None where no posterior has two.
    """
    modes = find_modes(v[0], log_weights, target)
    proposal = _mode_mixture(modes)
    effective = effective_sample_size(log_weights)
    trust = effective**2 / (effective**2 + HALF_TRUST**2)
    if np.any(trust >= LEAST_TRUST):
        proposal = blend(next_proposal(v, log_weights, target), proposal, trust)
    return proposal, _of_weight(modes)


def _mode_mixture(modes: Modes) -> Mixture:
    """Components at the modes."""
    distinct = modes.shares > 0.0
    shares = EVIDENCE_SHARE * modes.shares / modes.shares.sum(axis=1, keepdims=True)
    shares += (1.0 - EVIDENCE_SHARE) * distinct / distinct.sum(axis=1, keepdims=True)
    return make_mixture(USUAL.prior_weight, shares, modes.means, modes.covs)


def _of_weight(modes: Modes) -> Modes | None:
    """Modes that may matter; None where that is one at most in every sequence.

    Proposals are fitted from a few points, drawn by weight: a light mode far from the others would
    have none. Where a posterior has a single mode they have no need of it.
    """
    matters = modes.shares > np.exp(-LIGHTEST_MODE) * modes.shares.max(axis=1, keepdims=True)
    matters &= matters.sum(axis=1, keepdims=True) > 1
    most = int(matters.sum(axis=1).max(initial=0))
    modes = modes._replace(shares=np.where(matters, modes.shares, 0.0))
    return Modes(*(part[:, :most] for part in modes)) if most else None


def find_modes(points: np.ndarray, log_likelihood: np.ndarray, target: Target) -> Modes:
    """Modes that are reached from the best of the points (k, n_points), each of them once."""
    means, curvature, value = _modes(points, log_likelihood, target)
    # A climb may end where innovations run away: rounding of squares of 1e19 must not hide the
    # prior.
    curvature = beyond_rounding(curvature)
    log_mass = value - 0.5 * np.linalg.slogdet(curvature)[1]
    # Modes within one standard deviation of an earlier one are the same.
    distinct = ~np.any(np.tril(_distances(means, curvature) < 1.0, -1), axis=2)
    log_share = np.maximum(log_mass - log_mass.max(axis=1, keepdims=True), LEAST_LOG_SHARE)
    shares = distinct * np.exp(log_share)
    most = min(int(distinct.sum(axis=1).max()), MOST_MODES)
    rows, best = np.arange(len(shares))[:, None], np.argsort(-shares, axis=1)[:, :most]
    return Modes(means[rows, best], np.linalg.inv(curvature[rows, best]), shares[rows, best])


def _distances(means: np.ndarray, curvature: np.ndarray) -> np.ndarray:
    """(m_i - m_j)' C_j (m_i - m_j) (n_sequences, n_modes, n_modes) of means and curvatures."""
    n, n_modes, k = means.shape
    squares = (means[..., :, None] * means[..., None, :]).reshape(n, n_modes, k * k)
    own = squares @ np.swapaxes(curvature.reshape(n, n_modes, k * k), 1, 2)
    bent = np.einsum("njab,njb->nja", curvature, means)
    return own - 2.0 * (means @ np.swapaxes(bent, 1, 2)) + np.sum(means * bent, axis=2)[:, None]


def _modes(points: np.ndarray, log_likelihood: np.ndarray, target: Target) -> tuple:
    """Modes (n_sequences, n_modes, k), the curvature and the log target there.

    The climb starts at the best points at several temperatures, which crowd around the likeliest
    regions, at points all over a tempered posterior, which do not, and at the centres of the prior.
    Draws of the prior are few where a mode in its tail begins: some starts are moved outwards.
    """
    best = best_starts(
        np.ascontiguousarray(points.T), -2.0 * log_likelihood, STARTS_PER_TEMPERATURE
    )
    spread = systematic(tempered(log_likelihood, SPREAD_EFFECTIVE), SPREAD_STARTS)
    outwards = np.where(np.arange(SPREAD_STARTS) % 2, FAR_OUT, 1.0)
    starts = [np.moveaxis(best, 1, 2), outwards * np.moveaxis(points[:, spread], 0, 1)]
    damping = [FIRST_DAMPING] * (best.shape[1] + spread.shape[1])
    if target.coordinates.components is not None:
        centres = target.coordinates.components.means.T
        starts.append(np.repeat(centres[None], len(spread), axis=0))
        damping += [CENTRE_DAMPING] * centres.shape[1]
    return _climb(np.concatenate(starts, axis=2), target, np.array(damping))


def _climb(v: np.ndarray, target: Target, damping: np.ndarray) -> tuple:
    """Levenberg-Marquardt on the log target from v (n_sequences, k, n_starts).

    The first steps have the given damping (n_starts,). Returns as `_modes`.

    In v, where the prior has no edges: in z a climb would leave its support, and not come back to a
    mode that leans on its end.
    """
    value, gradient, curvature = local_quadratics(v, target)
    low, high = _reach(target.coordinates.components, v.shape[1])
    damping = np.tile(damping, (len(v), 1))
    for _ in range(CLIMB_STEPS):
        damped = curvature.copy()
        np.einsum("njaa->nja", damped)[:] *= 1.0 + damping[..., None]
        step = np.linalg.solve(damped, gradient[..., None])[..., 0]
        moved = np.clip(v + np.moveaxis(step, 1, 2), low, high)
        new_value, new_gradient, new_curvature = local_quadratics(moved, target)
        better = new_value > value
        v = np.where(better[:, None], moved, v)
        value = np.where(better, new_value, value)
        gradient = np.where(better[..., None], new_gradient, gradient)
        curvature = np.where(better[..., None, None], new_curvature, curvature)
        damping *= np.where(better, 0.2, 8.0)
    return np.moveaxis(v, 1, 2), curvature, value


def _reach(components: Components | None, k: int) -> tuple:
    """Lowest and highest values (k, 1) where modes are looked for: where the prior has its mass."""
    means, variances = np.zeros((1, k)), np.ones((1, k))
    if components is not None:
        means = np.concatenate([means, components.means])
        variances = np.concatenate([variances, np.sum(components.factors**2, axis=2)])
    reach = FARTHEST_MODE * np.sqrt(variances)
    return (means - reach).min(axis=0)[:, None], (means + reach).max(axis=0)[:, None]


def next_proposal(
    v: np.ndarray,
    log_weights: np.ndarray,
    target: Target,
    modes: Modes | None = None,
    even: bool = False,
    fit: Fit = USUAL,
) -> Mixture:
    """Mixtures fitted to weighted points v (n_sequences, k, n_points).

    The components start at some of the points, drawn by weight, and at an extreme one: that of the
    largest weight, where earlier proposals drew too little (Raftery & Bao 2010), or, where weights
    are `even` whatever was missed, that farthest from the mean. Their precision is the curvature of
    the log target there plus that of a window as wide as the cloud of points, and their mean one
    Newton step away, so that they follow a curved ridge. Given `modes` are components as well.
    """
    log_weights = log_weights + fit.reach * log_reach(v, log_weights)
    weights, extreme = tempered(log_weights, fit.n_effective), np.argmax(log_weights, axis=1)
    extreme = np.take_along_axis(v, extreme[:, None, None], axis=2)
    if v.shape[2] > FIT_POINTS:
        picks = systematic(weights, FIT_POINTS)
        v = np.take_along_axis(v, picks[:, None], axis=2)
        weights = np.full(picks.shape, 1.0 / FIT_POINTS)
    centred, cloud = _cloud(v, weights)
    if even:
        distance = _squared_distances(centred, cloud)
        farthest = np.argmax(np.where(weights > 0.0, distance, 0.0), axis=1)
        extreme = np.take_along_axis(v, farthest[:, None, None], axis=2)
    picks = systematic(weights, fit.n_components)
    at = np.concatenate([np.take_along_axis(v, picks[:, None], axis=2), extreme], axis=2)
    _, gradient, curvature = local_quadratics(at, target)
    covs = np.linalg.inv(curvature + np.linalg.inv(WINDOW_WIDTH**2 * cloud)[:, None])
    means = np.swapaxes(at, 1, 2) + np.einsum("njab,njb->nja", covs, gradient)
    shares = np.ones(means.shape[:2])
    if modes is not None:
        means, covs = np.append(means, modes.means, axis=1), np.append(covs, modes.covs, axis=1)
        shares = np.append(shares, modes.shares > 0.0, axis=1)
    start = make_mixture(fit.prior_weight, shares, means, covs)
    return fit_mixture(start, v, weights)


def _cloud(v: np.ndarray, weights: np.ndarray) -> tuple:
    """Deviations from the mean, and the covariance (n_sequences, k, k), of weighted points."""
    centred = v - v @ weights[:, :, None]
    cov = (centred * weights[:, None]) @ np.swapaxes(centred, 1, 2)
    size = np.trace(cov, axis1=1, axis2=2)[:, None, None]
    return centred, cov + 1e-9 * (1.0 + size) * np.eye(v.shape[1])


def _squared_distances(centred: np.ndarray, cov: np.ndarray) -> np.ndarray:
    """d' cov^-1 d (n_sequences, n_points) of deviations d (n_sequences, k, n_points)."""
    return np.sum(centred * (np.linalg.inv(cov) @ centred), axis=1)


def log_reach(v: np.ndarray, log_weights: np.ndarray) -> np.ndarray:
    """log(1 + d^2 / k) of points v (n_sequences, k, n_points), d in their standard deviations."""
    weights = np.exp(log_weights - log_weights.max(axis=1, keepdims=True))
    weights /= weights.sum(axis=1, keepdims=True)
    return np.log1p(_squared_distances(*_cloud(v, weights)) / v.shape[1])
