"""Growth where sequences are many: on a sample of them first, then with all.

How many states a family has, and roughly where, shows in a few hundred sequences, or in fewer that
have many values each. What remains for the others is to be heard: EM goes on with all of them, and
pairs of states are added as long as their evidence asks for more.
"""

import numpy as np

from mtds_sklearn._sequences import PackedSequences
from mtds_sklearn.learning._growth import better, grow, grown, polish, resume
from mtds_sklearn.learning._initialization import spread_sample
from mtds_sklearn.learning._learned import Learned, Options
from mtds_sklearn.learning._seen import of_the_seen
from mtds_sklearn.model._chart import n_family_states

# A sample has so many values, and so many sequences for each latent, within these limits.
ENOUGH_VALUES = 30_000
GROWN_PER_LATENT, LEAST_GROWN, MOST_GROWN = 16, 64, 256


def grow_from_sample(
    sequences: PackedSequences, options: Options, points: np.ndarray, normals: np.ndarray
) -> Learned:
    """Learn a family from standardised sequences, of which `sample_size` see every stage.

    Parameters are those of `grow`, and so is what comes back. Stages on the sample and on all
    sequences have evidence of a different size.
    """
    return of_the_seen(sequences, lambda seen: _from_sample(seen, options, points, normals))


def sample_size(sequences: PackedSequences, latent_dim: int) -> int:
    """How many of the sequences are enough to grow a family from; a half or more is no sample."""
    n, n_values = len(sequences.labels), max(np.count_nonzero(sequences.observed), 1)
    enough = max(int(np.ceil(ENOUGH_VALUES * n / n_values)), GROWN_PER_LATENT * latent_dim)
    size = max(enough, LEAST_GROWN)
    return size if 2 * size <= min(n, 2 * MOST_GROWN) else MOST_GROWN


def _from_sample(sequences, options, points, normals) -> Learned:
    sample = spread_sample(sequences, sample_size(sequences, options.latent_dim))
    learned = grow(sample, options, points, normals)
    if sample is sequences:
        return learned
    best = resume(sequences, learned.family, options, points)
    best = best._replace(stages=learned.stages + best.stages)
    smaller = list(learned.smaller)
    while not options.cayley and n_family_states(best.family.chart) + 2 <= options.n_states:
        number = 1 + n_family_states(best.family.chart) // 2
        trial = better(best, grown(sequences, best, 2, points, normals[number], options))
        if not trial.stages[-1].kept:
            return trial._replace(smaller=tuple(smaller))
        smaller.insert(0, best)
        best = polish(sequences, trial.family, trial.posterior, points, options)
        best = best._replace(stages=trial.stages + best.stages)
    return best._replace(smaller=tuple(smaller))
