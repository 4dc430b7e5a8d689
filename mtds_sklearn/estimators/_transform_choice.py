"""Whether outputs are learned as they are, with noise that grows with them, or bent by arcsinh.

Amounts, counts and concentrations are often measured with errors that grow with them. Then either
the noise has a part that is proportional to y (`model._noise`), and what moves y stays linear; or
everything is, and f(y) = unit arcsinh (y / unit) is learned: y itself below the unit, logarithmic
above it. Both have one number for each output, the unit; it is lowered as long as the evidence of a
small family of that output alone rises. All evidences are those of y, so that they may be compared.
"""

from collections.abc import Callable
from functools import partial

import numpy as np

from mtds_sklearn._sequences import PackedSequences, are_seen, frozen, select_sequences
from mtds_sklearn._transform_fit import fit_asinh, root_mean_square
from mtds_sklearn.estimators._callbacks import make_log
from mtds_sklearn.estimators._fitting import (
    Units,
    density_shift,
    fit_units,
    learn_best,
    one_blas_thread,
    outputs_of_rows,
    resolve_n_init,
    standardize,
    units_for,
)
from mtds_sklearn.inference._draws import make_draws
from mtds_sklearn.learning._growth import grow, n_stages, theta_size
from mtds_sklearn.learning._initialization import spread_sample
from mtds_sklearn.learning._learned import Learned, Options
from mtds_sklearn.model._noise import make_growth

# Sizes of the small families, and how many sequences they see.
FEW_STATES, FEW_LATENTS, SEEN_SEQUENCES = 2, 3, 40
# Units that are tried, as shares of the root mean square of an output.
SHARES = (1.0, 0.3, 0.1, 0.03, 0.01, 0.003)
# Nats of evidence that either has to gain; and nats per value that bent outputs have to gain over
# growing noise: they grow exponentially where a family is left, and so do means of their forecasts.
LEAST_GAIN, PRICE_OF_BENDING = 10.0, 0.1
# An output whose standard deviation is less than this share of its mean hardly bends; one that
# falls below zero by more than this share of it knows both signs.
LEAST_SPREAD, MOST_BELOW = 0.2, 0.05


def learn_in_units(estimator, sequences: PackedSequences, options: Options, seed: int) -> tuple:
    """Units by the estimator's `y_transform`, sequences in them, and what was learned.

    With "auto" everything is learned twice where small families ask for more than y with one noise,
    because what they ask for may be states; then evidence decides.
    """
    chosen = isinstance(estimator.y_transform, str) and estimator.y_transform == "auto"
    candidates = [units_for(sequences, None) if chosen else fit_units(estimator, sequences)]
    other = choose_units(sequences, options, seed) if chosen else None
    if other is not None and other.growth is not None and options.specific == "all":
        other = None  # beside noise that grows there are none
    candidates += [] if other is None else [other]
    n_init, found = resolve_n_init(estimator.n_init, len(sequences.labels), options), []
    for units in candidates:
        scaled, wanted = standardize(sequences, units), options._replace(growth=units.growth)
        how = (n_init, estimator.n_jobs, seed, make_log(estimator))
        found.append((units, scaled, learn_best(scaled, wanted, *how)))
    return max(found, key=lambda one: _evidence(one[2], sequences, one[0]))


def _evidence(learned: Learned, sequences: PackedSequences, units: Units) -> float:
    """Log evidence of the sequences in the units of y, in nats."""
    return learned.evidence - float(np.sum(density_shift(sequences, units)))


def choose_units(sequences: PackedSequences, options: Options, seed: int) -> Units | None:
    """Units in which small families learn the outputs better than as they are; None if none."""
    sample, best = spread_sample(sequences, SEEN_SEQUENCES), {}
    found = [
        _best_units(_alone(sample, o), y, options, seed)
        for o, y in enumerate(outputs_of_rows(sequences).T)
    ]
    for kind, (unit, gain) in zip(KINDS, np.moveaxis(found, 0, -1), strict=True):
        if np.isfinite(unit).any():
            best[kind] = unit, gain.sum()
    if bent_units in best:
        unit, gain = best[bent_units]
        best[bent_units] = unit, gain - PRICE_OF_BENDING * np.count_nonzero(sample.observed)
    if not best:
        return None
    kind = max(best, key=lambda kind: best[kind][1])
    return kind(sequences, best[kind][0])


def growing_units(sequences: PackedSequences, unit: np.ndarray) -> Units:
    """Units of outputs whose noise grows; inf: it does not."""
    units = units_for(sequences, None)
    return units._replace(growth=make_growth(outputs_of_rows(sequences), unit, units.scaling))


def bent_units(sequences: PackedSequences, unit: np.ndarray) -> Units:
    """Units of outputs bent by arcsinh; inf: not bent."""
    return units_for(sequences, fit_asinh(outputs_of_rows(sequences), unit))


KINDS = (growing_units, bent_units)


def _alone(sequences: PackedSequences, output: int) -> PackedSequences:
    """The sequences with one of their outputs, those of which nothing is observed left out."""
    only = slice(output, output + 1)
    alone = sequences._replace(
        outputs=frozen(sequences.outputs[:, only]), observed=frozen(sequences.observed[:, only])
    )
    return select_sequences(alone, are_seen(alone))


def _best_units(
    sequences: PackedSequences, y: np.ndarray, options: Options, seed: int
) -> list[tuple[float, float]]:
    """For each kind the unit of most evidence of an output y (n_rows,), and what it gains.

    inf, 0 without. `sequences` are those of the sample, with this output alone.
    """
    known = y[np.isfinite(y)]
    if not _may_differ_by_factors(known):
        return [(np.inf, 0.0)] * len(KINDS)
    evidence = partial(_small_evidence, sequences, options, seed)
    start, size = evidence(units_for(sequences, None)), root_mean_square(known)

    def best_of(kind: Callable) -> tuple[float, float]:
        return _best_unit(lambda unit: evidence(kind(sequences, np.array([unit]))), start, size)

    return [best_of(kind) for kind in KINDS]


def _best_unit(
    evidence: Callable[[float], float], start: float, size: float
) -> tuple[float, float]:
    """The unit of most evidence among shares of `size`, and what it gains on `start`."""
    highest, unit = start, np.inf
    for share in SHARES:
        found = evidence(share * size)
        if found <= highest:
            break
        highest, unit = found, share * size
    return (unit, highest - start) if highest > start + LEAST_GAIN else (np.inf, 0.0)


def _may_differ_by_factors(known: np.ndarray) -> bool:
    """Whether values (n_known,) are amounts that differ by enough."""
    if len(known) == 0 or np.mean(known) <= 0.0:
        return False
    spread = np.std(known)
    return bool(spread > LEAST_SPREAD * np.mean(known) and known.min() > -MOST_BELOW * spread)


def _small_evidence(sequences: PackedSequences, options: Options, seed: int, units: Units) -> float:
    """Log evidence of one output under a small family, in nats."""
    scaled = standardize(sequences, units)
    small = options._replace(
        n_states=min(FEW_STATES, options.n_states),
        latent_dim=min(FEW_LATENTS, options.latent_dim),
        varying=tuple(what for what in options.varying if what != "noise"),
        cayley=False,
        max_iter=1,
        growth=units.growth,
    )
    points = make_draws(small.latent_dim, seed).points
    size = theta_size(small.n_states, scaled.inputs.shape[1], 1, small.free)
    shape = (n_stages(small.n_states), size, small.latent_dim)
    with one_blas_thread():
        learned = grow(scaled, small, points, np.random.RandomState(seed).standard_normal(shape))
    return _evidence(learned, sequences, units)
