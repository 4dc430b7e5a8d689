"""The posterior p(z | y) of new sequences by adaptive mixture importance sampling.

Everything happens in the coordinates v of `_coordinates`, where the prior is N(0, I), or a mixture
of Gaussians. The first round weights quasi-random draws of the prior. Every further round draws
from the latest proposal and weights the points of the first two and the latest rounds by the
deterministic mixture of their proposals (Cornuet et al. 2012),

    w(v) = p(y | v) p(v) / mean_r q_r(v),

so that no point weighs much that any proposal could have found. Until enough points are effective a
new proposal is fitted to the weighted points (Cappe et al. 2008; `_proposals`). The evidence is
the mean of the weights.
"""

from typing import NamedTuple

import numpy as np

from mtds_sklearn._sequences import PackedSequences
from mtds_sklearn.inference._coordinates import latents, normal_scores
from mtds_sklearn.inference._disturbance import with_gap_weights
from mtds_sklearn.inference._draws import Draws
from mtds_sklearn.inference._pool import (
    Pool,
    Weighed,
    add_round,
    effective_size,
    last_or_resampled,
    log_weights,
    prior_pool,
    select_pool,
    select_weighed,
    weigh,
)
from mtds_sklearn.inference._proposals import first_proposal, next_proposal, select_modes
from mtds_sklearn.inference._specific import draws_given
from mtds_sklearn.inference._target import (
    Target,
    departures_at,
    make_target,
    n_posteriors,
    select_target,
)
from mtds_sklearn.model._task_map import Family

# Inference ends when the last round is good by itself: a poor one often means that a tail is still
# to be found. After some rounds it ends as well when so many times the draws of a round are
# effective together.
PATIENCE, TARGET_TOGETHER = 6, 1.5
# Where the first proposals are given, a smaller share says that they missed the posterior.
LOST_SHARE = 0.05
LEAST_WEIGHT = 1e-300
# Sequences that are worked on together: their points stay in the cache.
CHUNK_SEQUENCES = 16


class Posterior(NamedTuple):
    """Weighted points of p(z | y) of N sequences.

    Attributes
    ----------
    z : ndarray of shape (n_sequences, n_draws, k)
    log_weights : ndarray of shape (n_sequences, n_draws)
        Normalised.
    log_evidence : ndarray of shape (n_sequences,)
        log p(y), in nats.
    ess : ndarray of shape (n_sequences,)
        Effective sample size of all the points that the evidence rests on, which may be more than
        are kept.
    """

    z: np.ndarray
    log_weights: np.ndarray
    log_evidence: np.ndarray
    ess: np.ndarray


def infer(
    sequences: PackedSequences, family: Family, draws: Draws, near: tuple | None = None
) -> Posterior:
    """Posterior of every sequence given its observed values.

    Parameters
    ----------
    sequences : PackedSequences
        Standardised.
    family : Family
    draws : Draws
    near : tuple of z (n_sequences, n_points, k) and log weights (n_sequences, n_points), optional
        Weighted points near the posteriors; by default they are searched for.

    Returns
    -------
    posterior : Posterior
    """
    target = make_target(with_gap_weights(sequences, family), family)
    parts = []
    for start in range(0, len(sequences.labels), CHUNK_SEQUENCES):
        index = np.arange(start, min(start + CHUNK_SEQUENCES, len(sequences.labels)))
        given = None if near is None else tuple(array[index] for array in near)
        parts.append(_infer(select_target(target, index), draws, given))
    return Posterior(*(np.concatenate(arrays) for arrays in zip(*parts, strict=True)))


def _infer(target: Target, draws: Draws, near: tuple | None) -> Posterior:
    n, n_draws = n_posteriors(target), len(draws.points)
    out, active = _empty_posterior(n, draws), np.arange(n)
    pool, proposal, modes = prior_pool(target, draws), None, None
    n_rounds = len(draws.scale) - 1
    for round_ in range(n_rounds + 1):
        if proposal is not None:
            pool = add_round(pool, proposal, target, draws, round_)
        weighed = weigh(pool, n_draws)
        share = effective_size(weighed.last) / n_draws
        done = _is_done(weighed, round_) | (round_ == n_rounds)
        ended = np.flatnonzero(done)
        if len(ended):
            known = (select_pool(pool, ended), select_weighed(weighed, ended))
            _settle(out, active[ended], _summary(*known, select_target(target, ended), draws))
        lost = ~done & (share < LOST_SHARE)
        if near is not None and round_ == 1 and lost.any():
            anew = select_target(target, np.flatnonzero(lost))
            _settle(out, active[lost], _infer(anew, draws, None))
            done |= lost
        if done.all():
            break
        go = np.flatnonzero(~done)
        active, pool, target = active[go], select_pool(pool, go), select_target(target, go)
        modes = select_modes(modes, go)
        if round_ > 0:
            proposal = next_proposal(pool.v, log_weights(pool), target, modes)
        elif near is None:
            proposal, modes = first_proposal(pool.v, log_weights(pool), target)
        else:
            z = near[0][go, :, : len(target.coordinates.axes)]
            v = normal_scores(target.coordinates, np.swapaxes(z, 1, 2))
            proposal = next_proposal(v[:, : pool.v.shape[1]], near[1][go], target, even=True)
    return out


def _is_done(weighed: Weighed, round_: int) -> np.ndarray:
    """Which posteriors are known well enough, bool (n_sequences,)."""
    if round_ < PATIENCE:
        return weighed.good
    together = effective_size(weighed.weights) / weighed.last.shape[1]
    return weighed.good | (together >= TARGET_TOGETHER)


def _empty_posterior(n: int, draws: Draws) -> Posterior:
    n_draws, k = draws.points.shape
    shapes = ((n, n_draws, k), (n, n_draws), (n,), (n,))
    return Posterior(*(np.empty(shape) for shape in shapes))


def _settle(out: Posterior, which: np.ndarray, found: Posterior) -> None:
    """Write what was found of the sequences `which`."""
    for whole, part in zip(out, found, strict=True):
        whole[which] = part


def _summary(pool: Pool, weighed: Weighed, target: Target, draws: Draws) -> Posterior:
    """Evidence from all points of the pool, and n_draws of them to keep."""
    v, weights = last_or_resampled(pool, weighed)
    k = len(target.coordinates.axes)
    # Coordinates that move nothing keep their prior, whatever the weights.
    still = draws.normal[0, v.shape[1] : k]
    still = np.broadcast_to(still, (len(v), *still.shape))
    z = latents(target.coordinates, np.concatenate([v, still], axis=1))
    if target.along is not None:
        z = np.concatenate([z, draws_given(departures_at(v, target), draws.normal[0, k:])], axis=1)
    return Posterior(
        np.ascontiguousarray(np.swapaxes(z, 1, 2)),
        np.log(np.maximum(weights, LEAST_WEIGHT)),
        weighed.log_evidence,
        effective_size(weighed.weights),
    )
