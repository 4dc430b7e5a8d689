"""What the training sequences say of the scores v of p(z), and the components that this gives.

The log likelihood of a sequence is taken for a quadratic in v: at first the one that its posterior
q = N(mean, cov) under N(z; 0, I) implies, afterwards those at the places where components have the
sequence. Scores whose distribution is not fitted are integrated out under N(0, I).
"""

import numpy as np

from mtds_sklearn._sequences import PackedSequences, select_sequences
from mtds_sklearn.inference._coordinates import moving_first
from mtds_sklearn.inference._disturbance import with_gap_weights
from mtds_sklearn.inference._target import Target, local_quadratics, log_likelihoods, make_target
from mtds_sklearn.learning._component_choice import fit_components
from mtds_sklearn.learning._components import Quadratics
from mtds_sklearn.learning._posterior import TaskPosterior
from mtds_sklearn.model._latent_prior import (
    Components,
    LatentPrior,
    bent_coordinates,
    beside_normal,
    latents_of,
    scores_of,
    table_slopes,
    widened,
)
from mtds_sklearn.model._task_map import Family, natural_map, without_specific

# Of more sequences than this a part is looked at.
MOST_SEQUENCES = 500


def with_components(
    prior: LatentPrior,
    family: Family,
    posterior: TaskPosterior,
    weights: np.ndarray | None = None,
    sequences: PackedSequences | None = None,
) -> LatentPrior:
    """p(z) with the clusters and the dependence that the evidence speaks for, if any.

    Parameters
    ----------
    prior : LatentPrior
        Independent coordinates.
    family : Family
        With specific variances, if it has any, which are integrated out.
    posterior : TaskPosterior
        Of z, of the sequences under N(0, I).
    weights : ndarray of shape (n_sequences,), default=None
        How often each sequence counts; None: once.
    sequences : PackedSequences or None
        Standardised; None: they are not kept, and the posteriors have to do.
    """
    if not bent_coordinates(prior).any():
        return prior
    order, n_moving = moving_first(natural_map(without_specific(family))[0] @ prior.axes)
    prior = prior._replace(axes=prior.axes[:, order], quantiles=prior.quantiles[order])
    seen = np.flatnonzero(np.any(posterior.mean != 0.0, axis=1))  # of others nothing was observed
    if len(seen) > MOST_SEQUENCES:
        seen = seen[np.linspace(0, len(seen) - 1, MOST_SEQUENCES).astype(int)]
    count = np.ones(len(seen)) if weights is None else weights[seen]
    known = TaskPosterior(posterior.mean[seen], posterior.factor[seen])
    quadratics = implied_quadratics(prior, known, n_moving, count)
    look_again = None
    if sequences is not None:
        part = with_gap_weights(select_sequences(sequences, seen), family)
        whole = beside_normal(prior, len(family.specific))
        target = make_target(part, family._replace(prior=whole))

        def look_again(at):
            return quadratics_at(at, target, count)

    components = fit_components(quadratics, look_again)
    if components is None:
        return prior
    return prior._replace(components=widened(components, len(prior.axes)))


def implied_quadratics(
    prior: LatentPrior, posterior: TaskPosterior, n_scores: int, weights: np.ndarray
) -> Quadratics:
    """Quadratics that N(mean, cov), the posteriors under N(z; 0, I), imply in the first scores.

    At the mean the gradient of the log likelihood is the mean, and minus its Hessian cov^-1 - I.
    Levels are those without the constant that all places have in common.
    """
    v, _ = scores_of(prior, posterior.mean)
    slope = table_slopes(prior, v)
    inverse = np.linalg.inv(posterior.factor) @ prior.axes
    precision = np.swapaxes(inverse, 1, 2) @ inverse - prior.axes.T @ prior.axes
    values, axes = np.linalg.eigh(precision)  # rounding must not make it negative
    stiffness = (axes * np.maximum(values, 0.0)[:, None]) @ np.swapaxes(axes, 1, 2)
    stiffness *= slope[:, :, None] * slope[:, None]
    gradient = slope * (posterior.mean @ prior.axes)
    level = np.zeros(len(v))
    some = slice(n_scores)
    parts = gradient[:, None, some], stiffness[:, None, some, some], v[:, None, some]
    return Quadratics(*_expanded(level[:, None], *parts), weights)


def quadratics_at(at: np.ndarray, target: Target, weights: np.ndarray) -> Quadratics:
    """Quadratics of the log likelihoods at scores (n_sequences, n_places, n_moving)."""
    level, gradient = log_likelihoods(_side_by_side(at), target), np.empty(at.shape)
    stiffness = np.empty((*at.shape, at.shape[2]))
    for j in range(at.shape[1]):
        _, slope, curvature = local_quadratics(_side_by_side(at[:, j : j + 1]), target)
        gradient[:, j] = slope[:, 0] + at[:, j]
        stiffness[:, j] = curvature[:, 0] - np.eye(at.shape[2])
    return Quadratics(*_expanded(level, gradient, stiffness, at), weights)


def _side_by_side(at: np.ndarray) -> np.ndarray:
    """Scores (n_sequences, n_places, k) as points (n_sequences, k, n_places)."""
    return np.ascontiguousarray(np.swapaxes(at, 1, 2))


def _expanded(level, gradient, stiffness, v) -> tuple:
    """Level, pull and stiffness about zero of quadratics that are given at v."""
    bent = np.einsum("njab,njb->nja", stiffness, v)
    level = level - np.einsum("nja,nja->nj", gradient, v) - 0.5 * np.einsum("nja,nja->nj", bent, v)
    return level, gradient + bent, stiffness


def follow(prior: LatentPrior, shift: np.ndarray, factor: np.ndarray) -> LatentPrior:
    """p(z') for z' = factor^-1 (z - shift), nearly z.

    Coordinates keep their tables along the same directions; components are moved to where they are.
    """
    left, sizes, right = np.linalg.svd(prior.axes)
    turned, _, back = np.linalg.svd(factor.T @ left @ right)
    moved = prior._replace(axes=turned @ back @ (right.T * sizes) @ right)
    if prior.components is None:
        return moved
    inverse, old = np.linalg.inv(factor), prior.components.means
    means, _ = scores_of(moved, (latents_of(prior, old) - shift) @ inverse.T)
    # Near a mean: v' = slope'^-1 axes'^-1 factor^-1 axes slope v.
    turn = np.linalg.solve(moved.axes, inverse @ prior.axes)
    turn = turn * table_slopes(prior, old)[:, None] / table_slopes(moved, means)[:, :, None]
    covs = turn @ prior.components.factors
    factors = np.linalg.cholesky(covs @ np.swapaxes(covs, 1, 2))
    return moved._replace(components=Components(prior.components.weights, means, factors))
