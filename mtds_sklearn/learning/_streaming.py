"""Learning from minibatches of whole sequences, each seen once and then forgotten but for sums.

Earlier minibatches are kept as the quadratic of `mtds_sklearn.learning._sums`. A new one is learned
like a small data set with that quadratic as an additional prior: E-step, damped Gauss-Newton step,
noise, again; only then is it linearised and added. Where linearisations are exact this is recursive
least squares; here it is recursive Gauss-Newton (Ljung & Soederstrom 1983) with an E-step.

Linearisations and posteriors of z go stale as phi moves, so that old sums are faded: with n
sequences seen, of which the first minibatch had n_0, the sums are worth n_0 (n / n_0)^MEMORY
sequences. This is the step size n^-MEMORY of stochastic EM (Cappe & Moulines 2009) in terms of
sequences; MEMORY < 1 forgets, MEMORY > 1/2 converges.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from scipy.linalg import cho_factor, cho_solve

from mtds_sklearn._sequences import PackedSequences
from mtds_sklearn.inference._disturbance import with_gap_weights
from mtds_sklearn.learning._e_step import e_step
from mtds_sklearn.learning._em import MIN_NOISE, MOST_SPENT, best_noise, update_relevance
from mtds_sklearn.learning._levels import known_levels, weighted_by_level
from mtds_sklearn.learning._m_step import (
    curvature,
    expected_squares,
    forgets,
    level_cost,
    log_prior,
    posterior_normal,
    prior_precision,
    sequence_weights,
    weighted_counts,
)
from mtds_sklearn.learning._posterior import TaskPosterior, move, prior_posterior
from mtds_sklearn.learning._sums import (
    Sums,
    add,
    curvature_of,
    expand_sums,
    fade,
    quadratic,
    stacked,
    sums_of,
    unstacked,
)
from mtds_sklearn.model._likelihood import gaussian_log_density
from mtds_sklearn.model._task_map import Family, relative_levels

MEMORY = 0.75
# Rounds of E-step and Gauss-Newton step for a minibatch, and how often a step is damped more.
ROUNDS = 4
MOST_TRIES = 8
# A minibatch is strange whose mean squared residual exceeds the noise variance by this share, and
# by so many standard deviations of a mean of squares.
STRANGE_SHARE, STRANGE_DEVIATIONS = 0.25, 5.0


class Stream(NamedTuple):
    """A family that is being learned from a stream.

    Attributes
    ----------
    family : Family
        With z ~ N(0, I).
    sums : Sums
    n_first, n_seen : int
        Sequences in the first minibatch, and in all.
    spent : float
        Share of the values that (W, b) use up; see `mtds_sklearn.learning._em`.
    """

    family: Family
    sums: Sums
    n_first: int
    n_seen: int
    spent: float


class Step(NamedTuple):
    """The stream after a minibatch.

    Attributes
    ----------
    stream : Stream
    posterior : TaskPosterior
        Of the sequences of the minibatch.
    shift, factor : ndarray of shape (k,), (k, k)
        The expansion moved every z to factor^-1 (z - shift).
    misfit : float
        Mean squared residual of the minibatch over the noise variance before it.
    is_strange : bool
        Whether the misfit is too large for chance, and stayed so.
    level : ndarray of shape (n_sequences,)
        Noise level of each sequence.
    """

    stream: Stream
    posterior: TaskPosterior
    shift: np.ndarray
    factor: np.ndarray
    misfit: float
    is_strange: bool
    level: np.ndarray


def start_stream(sequences: PackedSequences, family: Family, posterior: TaskPosterior) -> Stream:
    """A stream whose first minibatch has been learned as a whole."""
    sums = sums_of(_weighted(sequences, family, posterior), family, posterior)
    family, spent = _relevance(family._replace(prior=None), sums)
    n = len(sequences.labels)
    return Stream(family, sums, n, n, spent)


def learn_minibatch(
    stream: Stream, sequences: PackedSequences, points: np.ndarray, grown: Callable | None = None
) -> Step:
    """Learn from some more standardised sequences.

    Parameters
    ----------
    points : ndarray of shape (n_points, latent_dim)
        Quasi-random draws of the prior of z, for the search of the E-step.
    grown : callable, default=None
        Called with (old sums, spent, (family, posterior), sequences, points) where the minibatch
        shows what the family cannot express; returns the old sums, family and posterior after
        growth, or None.
    """
    n_seen = stream.n_seen + len(sequences.labels)
    memory = stream.n_first * (n_seen / stream.n_first) ** MEMORY
    weights = sequence_weights(sequences)
    keep = np.clip((memory - weights.sum()) / stream.sums.moments[-1, -1], 0.0, 1.0)
    old = fade(stream.sums, float(keep))
    family, before = stream.family, stream.family.noise_std
    posterior = prior_posterior(len(weights), family.loadings.shape[1])
    family, posterior = absorb(old, stream.spent, family, posterior, sequences, points)
    new = sums_of(_weighted(sequences, family, posterior), family, posterior)
    misfit, is_strange = _misfit(new, before)
    if is_strange and grown is not None:
        larger = grown(old, stream.spent, (family, posterior), sequences, points)
        if larger is not None:
            old, family, posterior = larger
            new = sums_of(_weighted(sequences, family, posterior), family, posterior)
            is_strange = False
    level = known_levels(with_gap_weights(sequences, family), family, posterior) ** -0.5
    level *= relative_levels(family, posterior.mean)
    sums = add(old, new)
    family, sums, shift, factor = expand_sums(family, sums)
    posterior = move(posterior, shift, factor)
    family, spent = _relevance(family, sums)
    return Step(
        Stream(family, sums, stream.n_first, n_seen, spent), posterior, shift, factor, misfit,
        is_strange, level,
    )  # fmt: skip


def _weighted(
    sequences: PackedSequences, family: Family, posterior: TaskPosterior
) -> PackedSequences:
    """Values weighted by gaps before them and by their sequence's noise, where these matter."""
    base = with_gap_weights(sequences, family)
    if np.isinf(family.noise_dof):
        return base
    return weighted_by_level(base, known_levels(base, family, posterior))


def _misfit(new: Sums, noise_std: np.ndarray) -> tuple:
    """Mean squared residual in noise variances, and whether that is more than chance explains.

    Without latents the noise stands for all differences between sequences: nothing is strange.
    """
    count = np.maximum(new.n_observed.sum(), 1.0)
    misfit = float(np.sum(new.squared / noise_std**2) / count)
    chance = max(STRANGE_SHARE, STRANGE_DEVIATIONS * np.sqrt(2.0 / count))
    return misfit, len(new.moments) > 1 and misfit > 1.0 + chance


def absorb(
    old: Sums,
    spent: float,
    family: Family,
    posterior: TaskPosterior,
    sequences: PackedSequences,
    points: np.ndarray,
    floors: tuple = (),
) -> tuple:
    """Rounds of E-step, Gauss-Newton step and noise, with the old sums as a prior.

    As in `run_em`, the noise is held up by each floor (n_outputs,) in turn.
    """
    counts = old.n_observed + weighted_counts(sequences).sum(axis=0)
    damping = 1e-4
    for round_ in range(len(floors) + ROUNDS):
        floor = floors[round_] if round_ < len(floors) else MIN_NOISE
        search = round_ % ROUNDS == 0
        weighted = _weighted(sequences, family, posterior)
        posterior = e_step(weighted, family, posterior, points if search else None)
        weighted = _weighted(sequences, family, posterior)
        family, squared, damping = _gauss_newton(old, family, posterior, weighted, damping)
        noise = best_noise(old.squared + squared, counts * (1.0 - spent))
        family = family._replace(noise_std=np.maximum(noise, floor))
    return family, e_step(_weighted(sequences, family, posterior), family, posterior)


def _gauss_newton(old, family, posterior, sequences, damping) -> tuple:
    """One damped step on old quadratic + expected log likelihood + log prior, if one helps."""
    counts = weighted_counts(sequences).sum(axis=0)
    last = curvature(posterior, sequences, family)
    phi = stacked(family)
    free = np.isfinite(prior_precision(family)).ravel()
    pull = old.pull - old.normal @ phi + last.gradient.ravel()
    pull -= np.where(free, prior_precision(family).ravel(), 0.0) * phi
    both = last._replace(normal=old.normal + last.normal)
    normal, _ = posterior_normal(family, both)
    squared = last.squared.sum(axis=0)
    setting = (counts, sequences, posterior)
    value = _objective(old, family, squared, *setting)
    for _ in range(MOST_TRIES):
        damped = normal + damping * np.diag(np.diag(normal))
        step = np.zeros(len(phi))
        step[free] = cho_solve(cho_factor(damped, lower=True), pull[free])
        trial = unstacked(family, phi + step)
        trial_squared = expected_squares(posterior, sequences, trial).sum(axis=0)
        better = _objective(old, trial, trial_squared, *setting) > value
        if better and forgets(sequences, trial, posterior):
            return trial, trial_squared, max(0.3 * damping, 1e-8)
        damping = min(10.0 * damping, 1e8)
    return family, squared, damping


def _objective(old: Sums, family: Family, squared, counts, sequences, posterior) -> float:
    fit = gaussian_log_density(squared, counts, family.noise_std)
    fit -= level_cost(sequences, family, posterior)
    return float(fit) + quadratic(old, family) + log_prior(family)


def _relevance(family: Family, sums: Sums) -> tuple:
    """Relevance precisions by evidence, and the share of the values that (W, b) use up."""
    family, n_determined = update_relevance(family, curvature_of(sums))
    return family, min(n_determined / max(sums.n_observed.sum(), 1.0), MOST_SPENT)
