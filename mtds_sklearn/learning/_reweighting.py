"""Weights of values whose noise grows with the output, while a family is learned.

Inference knows the output of each particle, and its density is exact. EM wants weights that do not
change within a step. A value weighted by its own size counts for more where it happens to be small,
and all that is learned comes out too small: by two variances of the noise, relative to y. Weights
from what the family says of it (McCullagh & Nelder, *Generalized Linear Models*, 1989) have no such
bias, but where the family still is wrong they ruin the fit: a value of 100 where 1 is predicted
would be all that counts. So the variance is the mean of the two, again and again.
"""

import numpy as np

from mtds_sklearn._sequences import PackedSequences, frozen
from mtds_sklearn.learning._chunks import Kept, Reweighted, map_by_chunk, whole
from mtds_sklearn.learning._posterior import TaskPosterior
from mtds_sklearn.model._likelihood import evaluations, predicted_outputs
from mtds_sklearn.model._noise import noise_factor
from mtds_sklearn.model._task_map import Family, natural_parameters


def weighted_by_family(
    sequences: PackedSequences, family: Family, posterior: TaskPosterior | Kept
) -> PackedSequences | Reweighted:
    """Sequences whose values count by themselves and predictions at the means of z.

    `sequences` have the weights of the values themselves, times those of gaps and levels.
    """
    if family.growth is None:
        return sequences
    precision = map_by_chunk(_precision, sequences, (posterior,), (family,))
    if isinstance(posterior, Kept):
        return Reweighted(sequences, precision)
    return sequences._replace(precision=frozen(whole(precision)))


def _precision(sequences, posterior, family) -> np.ndarray:
    psi = natural_parameters(family, posterior.mean)
    yhat, _ = predicted_outputs(psi, evaluations(sequences), family.chart)
    own = noise_factor(family.growth, sequences.outputs)
    change = own / (0.5 * (own + noise_factor(family.growth, yhat)))
    return np.where(sequences.observed, sequences.precision * change, 0.0)
