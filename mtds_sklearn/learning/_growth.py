"""Growth: a family learned block by block, the number of blocks chosen by evidence.

Begin with offset and feed-through alone; place one block at a time where the residuals want it;
anneal the noise, iterate, and keep the block only if the evidence rises. Last, one state more is
tried, and one state in place of the last pair. A generous limit on the number of states then does
no harm.
"""

import numpy as np
from scipy.linalg import solve_triangular

from mtds_sklearn._sequences import PackedSequences, frozen
from mtds_sklearn.learning._conversion import convert_to_cayley
from mtds_sklearn.learning._e_step import laplace_terms
from mtds_sklearn.learning._em import MIN_NOISE, EMResult, best_noise, log_evidence, run_em
from mtds_sklearn.learning._initialization import (
    add_block,
    find_block,
    initial_family,
    n_entries,
    release_level,
    residuals_at,
    squares_beside_one_state,
)
from mtds_sklearn.learning._learned import Learned, Options, Stage
from mtds_sklearn.learning._m_step import Curvature, posterior_normal, weighted_counts
from mtds_sklearn.learning._posterior import prior_posterior
from mtds_sklearn.learning._reweighting import weighted_by_family
from mtds_sklearn.learning._seen import of_the_seen
from mtds_sklearn.model._chart import n_family_states
from mtds_sklearn.model._lds import Shape
from mtds_sklearn.model._likelihood import gaussian_log_density
from mtds_sklearn.model._task_map import Family

ANNEALING_STEPS = 12
FINAL_FLOOR = 0.15
DECIDING_ITERATIONS = 30
# Nats per value that the rest of a family may gain when a state is added, at most: noise half as
# large in all outputs would be 0.7.
HOPE = 0.5
DECIDING_TOLERANCE = 10.0


def grow(
    sequences: PackedSequences, options: Options, points: np.ndarray, normals: np.ndarray
) -> Learned:
    """Learn a family from standardised sequences.

    Parameters
    ----------
    points : ndarray of shape (n_points, latent_dim)
        Quasi-random draws of the prior of z, for the search of the E-step.
    normals : ndarray of shape (n_stages, n_theta, latent_dim)
        Standard normal draws for the rows of W that a stage adds.

    Returns
    -------
    learned : Learned
        Sequences without any observed value leave no trace in it but their posterior, the prior.
    """
    return of_the_seen(sequences, lambda seen: _grow(seen, options, points, normals))


def resume(
    sequences: PackedSequences, family: Family, options: Options, points: np.ndarray
) -> Learned:
    """Go on learning a family, of the size that it has, from these standardised sequences."""

    def learn(seen: PackedSequences) -> Learned:
        posterior = prior_posterior(len(seen.labels), family.loadings.shape[1])
        return polish(seen, family._replace(prior=None), posterior, points, options)

    return of_the_seen(sequences, learn)


def _grow(sequences, options, points, normals) -> Learned:
    # Noise levels come last: a sequence that is not understood yet looks noisy.
    varying = tuple(kind for kind in options.varying if kind != "noise")
    found = _found(sequences, options._replace(varying=varying), points, normals)
    if "noise" in options.varying:
        smaller = tuple(one._replace(family=release_level(one.family)) for one in found.smaller)
        found = found._replace(family=release_level(found.family), smaller=smaller)
    polished = polish(sequences, found.family, found.posterior, points, options)
    return polished._replace(stages=found.stages + polished.stages, smaller=found.smaller)


def _found(sequences, options, points, normals) -> Learned:
    """The family with its states, and those that growth came by."""
    shape = Shape(0, sequences.inputs.shape[1], sequences.outputs.shape[1], 2)
    family = initial_family(shape, options.free, options.varying, options.latent_dim)
    family = family._replace(
        loadings=np.where(np.isfinite(family.precision), 0.3, 0.0)[:, None]
        * normals[0, : len(family.bias)],
        growth=options.growth,
    )
    posterior = prior_posterior(len(sequences.labels), options.latent_dim)
    best = _stage(sequences, family, posterior, points, options)
    before, smaller = None, ()
    for stage in range(1, 1 + options.n_states // 2):
        trial = grown(sequences, best, 2, points, normals[stage], options)
        is_better = trial.evidence > best.evidence
        if is_better:
            before, smaller = best, (best, *smaller)
        best = better(best, trial)
        if not is_better:
            break
    best = _single_last(sequences, before, best, points, normals[-1], options)
    if options.cayley and best.family.chart.shape.n_states > 1:
        family = convert_to_cayley(best.family, best.posterior, options.varying)
        converted = _stage(sequences, family, best.posterior, points, options)
        best = converted._replace(stages=best.stages + converted.stages)
    return best._replace(smaller=smaller)


def better(best: Learned, trial: Learned) -> Learned:
    """The one with more evidence, which remembers that both were tried."""
    is_better = trial.evidence > best.evidence
    (stage,) = trial.stages
    winner = trial if is_better else best
    return winner._replace(stages=(*best.stages, stage._replace(kept=is_better)))


def n_stages(n_states: int) -> int:
    """Offset alone, each pair of states, and a single state."""
    return 2 + n_states // 2


def theta_size(n_states: int, n_inputs: int, n_outputs: int, free: tuple) -> int:
    """Number of entries of theta when all the states are there."""
    return n_entries(Shape(0, n_inputs, n_outputs, 2), n_states, free)


def _single_last(sequences, before, best, points, normals, options) -> Learned:
    """One state more, or one in place of the last pair, where that raises the evidence.

    Also in place of a pair with complex poles: one that dies away before it turns says what one
    state says.
    """
    for base in (best, before):
        if base is not None and base.family.chart.shape.n_states < options.n_states:
            # The bound knows one noise for all values.
            if base.family.growth is None and _is_hopeless(sequences, base, best.evidence):
                continue
            trial = grown(sequences, base, 1, points, normals, options)
            best = better(best, trial)
    return best


def _is_hopeless(sequences: PackedSequences, base: Learned, evidence: float) -> bool:
    """Whether one state more than `base` leaves far too much to have so much evidence."""
    residuals = residuals_at(sequences, base.family, base.posterior.mean)
    left = sequences._replace(outputs=frozen(residuals))
    squares = squares_beside_one_state(left)
    count = weighted_counts(sequences).sum(axis=0)
    noise = best_noise(squares, count)
    fit = float(gaussian_log_density(squares, count, noise))
    return fit + HOPE * float(count.sum()) < evidence


def grown(sequences, best, width, points, normals, options) -> Learned:
    residuals = residuals_at(sequences, best.family, best.posterior.mean)
    block = find_block(sequences, residuals, single=width == 1)
    family = add_block(best.family, block, options.varying, normals)
    return _stage(sequences, family, best.posterior, points, options)


def _stage(sequences, family, posterior, points, options) -> Learned:
    """Anneal from the size of the residuals, then iterate until the bound is roughly still."""
    residuals = residuals_at(sequences, family, posterior.mean)
    count = np.maximum(sequences.observed.sum(axis=0), 1)
    size = np.maximum(np.sqrt(np.sum(residuals**2, axis=0) / count), MIN_NOISE)
    family = family._replace(noise_std=size)
    n_annealed = ANNEALING_STEPS if family.chart.shape.n_states else 0
    floors = size * np.geomspace(1.0, FINAL_FLOOR, n_annealed)[:, None]
    result = run_em(
        sequences, family, posterior, points, floors=tuple(np.maximum(floors, MIN_NOISE)),
        max_iter=DECIDING_ITERATIONS, tol=DECIDING_TOLERANCE * options.tol,
    )  # fmt: skip
    return with_evidence(sequences, result, n_annealed)


def polish(sequences, family, posterior, points, options) -> Learned:
    result = run_em(
        sequences, family, posterior, points, max_iter=options.max_iter, tol=options.tol
    )
    return with_evidence(sequences, result)


def with_evidence(sequences: PackedSequences, result: EMResult, n_annealed: int = 0) -> Learned:
    """Add the evidence, by Laplace's method."""
    family, posterior, last, bounds, gains, converged = result
    weighted = weighted_by_family(sequences, family, posterior)
    evidence = log_evidence(result, *laplace_terms(weighted, family, posterior))
    n_states = n_family_states(family.chart)
    stage = Stage(n_states, np.array(bounds), n_annealed, evidence, kept=True)
    return Learned(family, posterior, evidence, last, bounds, gains, converged, (stage,))


def bias_factor(family: Family, last: Curvature) -> np.ndarray:
    """F (n_theta, n_theta) with F F' the Laplace covariance of b, for a family without latents."""
    normal, _ = posterior_normal(family, last)
    return solve_triangular(np.linalg.cholesky(normal), np.eye(len(normal)), lower=True, trans="T")
