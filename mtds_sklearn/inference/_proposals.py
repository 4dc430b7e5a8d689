"""Where to draw: the first proposal of every sequence, and the next, fitted to weighted points."""

import numpy as np

from mtds_sklearn.inference._coordinates import latents, normal_scores
from mtds_sklearn.inference._mixture import (
    Mixture,
    blend,
    effective_sample_size,
    fit_mixture,
    make_mixture,
    systematic,
    tempered,
)
from mtds_sklearn.inference._modes import best_starts, climb
from mtds_sklearn.inference._target import Target, local_quadratics, log_target
from mtds_sklearn.model._likelihood import evaluations

N_COMPONENTS = 8
# Share of the draws that come from the prior.
PRIOR_WEIGHT = 0.05
# The climb to the modes ends early: the fit to weighted points does the rest.
STARTS_PER_TEMPERATURE, CLIMB_STEPS, CLIMB_TOLERANCE = 4, 12, 1e-2
# Steps of Newton's method where the prior has clusters.
NEWTON_STEPS = 4
# Share that the modes divide by their Laplace evidence; the rest is divided equally, since the
# evidence of a curved mode can be far off.
EVIDENCE_SHARE = 0.7
# Effective draws of the prior at which they shape half of the first proposal, and the share of it
# below which they are left out.
HALF_TRUST, LEAST_TRUST = 20.0, 0.02
# Points that a proposal is fitted to; the weights are tempered until so many are effective.
FIT_POINTS, FIT_EFFECTIVE = 2048, 300.0
# Half width of the window of a component, in standard deviations of the cloud of points.
WINDOW_WIDTH = 2.0


def first_proposal(v: np.ndarray, log_weights: np.ndarray, target: Target) -> Mixture:
    """Components at the modes, and at draws of the prior as far as these are effective.

    Parameters
    ----------
    v : ndarray of shape (n_sequences, k, n_points)
        Draws of the prior, the same for all sequences.
    log_weights : ndarray of shape (n_sequences, n_points)
        Their log likelihoods.
    """
    effective = effective_sample_size(log_weights)
    trust = effective**2 / (effective**2 + HALF_TRUST**2)
    modes = _mode_mixture(v[0], log_weights, target)
    if np.all(trust < LEAST_TRUST):
        return modes
    return blend(next_proposal(v, log_weights, target), modes, trust)


def _mode_mixture(points: np.ndarray, log_likelihood: np.ndarray, target: Target) -> Mixture:
    """Components at the modes that are reached from the best of the points (k, n_points)."""
    means, curvature, value = _modes(points, log_likelihood, target)
    log_mass = value - 0.5 * np.linalg.slogdet(curvature)[1]
    # Modes within one standard deviation of an earlier one are the same.
    gap = means[:, :, None] - means[:, None]
    distance = np.einsum("nija,njab,nijb->nij", gap, curvature, gap)
    distinct = ~np.any(np.tril(distance < 1.0, -1), axis=2)
    shares = distinct * np.exp(log_mass - log_mass.max(axis=1, keepdims=True))
    shares = EVIDENCE_SHARE * shares / shares.sum(axis=1, keepdims=True)
    shares += (1.0 - EVIDENCE_SHARE) * distinct / distinct.sum(axis=1, keepdims=True)
    most = int(distinct.sum(axis=1).max())
    rows, best = np.arange(len(shares))[:, None], np.argsort(-shares, axis=1)[:, :most]
    covs = np.linalg.inv(curvature[rows, best])
    return make_mixture(PRIOR_WEIGHT, shares[rows, best], means[rows, best], covs)


def _modes(points: np.ndarray, log_likelihood: np.ndarray, target: Target) -> tuple:
    """Modes (n_sequences, n_modes, k), the curvature and the log target there."""
    k = len(points)
    starts = best_starts(
        np.ascontiguousarray(points.T), -2.0 * log_likelihood, STARTS_PER_TEMPERATURE
    )
    n, n_starts, _ = starts.shape
    z = np.moveaxis(latents(target.coordinates, np.moveaxis(starts, 1, 2)), 1, 2)
    run = evaluations(target.sequences, repeats=n_starts)
    z, _, _ = climb(z.reshape(n * n_starts, -1), run, target.family, CLIMB_STEPS, CLIMB_TOLERANCE)
    z = np.moveaxis(z.reshape(n, n_starts, -1), 1, 2)
    v = np.ascontiguousarray(normal_scores(target.coordinates, z)[:, :k])
    # The climb took the prior of z for normal; Newton's method towards the mode under the true one.
    if target.coordinates.components is None:
        return _newton(v, target, 1)
    centres = np.repeat(target.coordinates.components.means.T[None], n, axis=0)
    return _newton(
        np.concatenate([v, np.moveaxis(starts, 1, 2), centres], axis=2), target, NEWTON_STEPS
    )


def _newton(v: np.ndarray, target: Target, n_steps: int) -> tuple:
    """Modes near v (n_sequences, k, n_modes): as `_modes`, curvature of the last step's start."""
    value = log_target(v, target)
    for _ in range(n_steps):
        gradient, curvature = local_quadratics(v, target)
        step = np.moveaxis(np.linalg.solve(curvature, gradient[..., None])[..., 0], 1, 2)
        new_value = log_target(v + step, target)
        v = np.where((new_value > value)[:, None], v + step, v)
        value = np.maximum(value, new_value)
    return np.moveaxis(v, 1, 2), curvature, value


def next_proposal(
    v: np.ndarray, log_weights: np.ndarray, target: Target, even: bool = False
) -> Mixture:
    """Mixtures fitted to weighted points v (n_sequences, k, n_points).

    The components start at some of the points, drawn by weight, and at an extreme one: that of the
    largest weight, where earlier proposals drew too little (Raftery & Bao 2010), or, where weights
    are `even` whatever was missed, that farthest from the mean. Their precision is the curvature of
    the log target there plus that of a window as wide as the cloud of points, and their mean one
    Newton step away, so that they follow a curved ridge.
    """
    weights, extreme = tempered(log_weights, FIT_EFFECTIVE), np.argmax(log_weights, axis=1)
    extreme = np.take_along_axis(v, extreme[:, None, None], axis=2)
    if v.shape[2] > FIT_POINTS:
        picks = systematic(weights, FIT_POINTS)
        v = np.take_along_axis(v, picks[:, None], axis=2)
        weights = np.full(picks.shape, 1.0 / FIT_POINTS)
    centred = v - v @ weights[:, :, None]
    cloud = (centred * weights[:, None]) @ np.swapaxes(centred, 1, 2)
    size = np.trace(cloud, axis1=1, axis2=2)[:, None, None]
    cloud = cloud + 1e-9 * (1.0 + size) * np.eye(v.shape[1])
    if even:
        distance = np.einsum("nas,nab,nbs->ns", centred, np.linalg.inv(cloud), centred)
        farthest = np.argmax(np.where(weights > 0.0, distance, 0.0), axis=1)
        extreme = np.take_along_axis(v, farthest[:, None, None], axis=2)
    picks = systematic(weights, N_COMPONENTS)
    at = np.concatenate([np.take_along_axis(v, picks[:, None], axis=2), extreme], axis=2)
    gradient, curvature = local_quadratics(at, target)
    covs = np.linalg.inv(curvature + np.linalg.inv(WINDOW_WIDTH**2 * cloud)[:, None])
    means = np.swapaxes(at, 1, 2) + np.einsum("njab,njb->nja", covs, gradient)
    start = make_mixture(PRIOR_WEIGHT, np.ones(means.shape[:2]), means, covs)
    return fit_mixture(start, v, weights)
