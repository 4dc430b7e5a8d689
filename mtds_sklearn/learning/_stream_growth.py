"""Another block for a stream whose minibatch shows what the family cannot express.

As in `mtds_sklearn.learning._growth`: placed by the residuals, annealed, kept if the evidence
rises. The data before the minibatch enter as the quadratic that is left of them; about the new
entries it says nothing.
"""

import numpy as np

from mtds_sklearn._sequences import PackedSequences
from mtds_sklearn.learning._e_step import laplace_terms
from mtds_sklearn.learning._em import EMResult, log_evidence
from mtds_sklearn.learning._growth import ANNEALING_STEPS, FINAL_FLOOR
from mtds_sklearn.learning._initialization import add_block, find_block, residuals_at
from mtds_sklearn.learning._m_step import curvature
from mtds_sklearn.learning._posterior import TaskPosterior
from mtds_sklearn.learning._streaming import absorb
from mtds_sklearn.learning._sums import Sums, quadratic
from mtds_sklearn.model._chart import Chart
from mtds_sklearn.model._lds import is_modal
from mtds_sklearn.model._likelihood import gaussian_log_density
from mtds_sklearn.model._task_map import Family


def can_grow(family: Family, n_states: int) -> bool:
    """Whether there is room for two states more below the limit, in a chart that can grow."""
    shape = family.chart.shape
    return is_modal(shape) and shape.n_states % 2 == 0 and shape.n_states + 2 <= n_states


def grow_stream(
    old: Sums,
    spent: float,
    start: tuple[Family, TaskPosterior],
    sequences: PackedSequences,
    points: np.ndarray,
    *,
    varying: tuple,
    rng: np.random.RandomState,
) -> tuple | None:
    """The sums, family and posterior with two states more; None if the evidence does not rise."""
    family, posterior = start
    residuals = residuals_at(sequences, family, posterior.mean)
    count = np.maximum(sequences.observed.sum(axis=0), 1)
    size = np.maximum(np.sqrt(np.sum(residuals**2, axis=0) / count), family.noise_std)
    block = find_block(sequences, residuals, single=False)
    normals = rng.standard_normal((_n_entries_after(family.chart), posterior.mean.shape[1]))
    larger = add_block(family, block, varying, normals)._replace(noise_std=size)
    embedded = embed(old, family.chart, larger.chart)
    floors = tuple(size * np.geomspace(1.0, FINAL_FLOOR, ANNEALING_STEPS)[:, None])
    larger, moved = absorb(embedded, spent, larger, posterior, sequences, points, floors)
    before = stream_evidence(old, family, posterior, sequences)
    after = stream_evidence(embedded, larger, moved, sequences)
    return (embedded, larger, moved) if after > before else None


def _n_entries_after(chart: Chart) -> int:
    """At least the number of entries of theta with one block more."""
    _, m, p, _ = chart.shape
    return len(chart.entries) + 4 + 2 * m + 2 * p + 2 * p


def embed(old: Sums, small: Chart, large: Chart) -> Sums:
    """The sums for a chart with more entries, of which they say nothing."""
    k1 = len(old.moments)
    where = {entry: row for row, entry in enumerate(large.entries)}
    rows = np.array([where[entry] for entry in small.entries])
    index = (np.arange(k1)[:, None] * len(large.entries) + rows).ravel()
    size = k1 * len(large.entries)
    normal, pull = np.zeros((size, size)), np.zeros(size)
    normal[np.ix_(index, index)] = old.normal
    pull[index] = old.pull
    return old._replace(normal=normal, pull=pull)


def stream_evidence(
    old: Sums, family: Family, posterior: TaskPosterior, sequences: PackedSequences
) -> float:
    """Laplace evidence of a minibatch with the old sums as a prior, up to what both sides share."""
    last = curvature(posterior, sequences, family)
    last = last._replace(normal=old.normal + last.normal)
    result = EMResult(family, posterior, last, [], [], converged=True)
    noise = gaussian_log_density(old.squared, old.n_observed, family.noise_std)
    own = log_evidence(result, *laplace_terms(sequences, family, posterior))
    return own + quadratic(old, family) + float(noise)
