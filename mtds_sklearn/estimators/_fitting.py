"""From packed rows in the user's units to a learned family, for all three estimators."""

import warnings
from functools import cache
from typing import NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.parallel import Parallel, delayed
from threadpoolctl import ThreadpoolController

from mtds_sklearn._progress import Log, heard
from mtds_sklearn._scaling import Scaling, apply_scaling, fit_scaling
from mtds_sklearn._sequences import PackedSequences, frozen
from mtds_sklearn.inference._draws import make_draws
from mtds_sklearn.inference._forecast import Forecast
from mtds_sklearn.learning._growth import Learned, Options, grow, n_stages, resume, theta_size
from mtds_sklearn.model._task_map import Family

BLOCK_KINDS = ("A", "B", "C", "D", "offset", "x0")
# Below this many sequences the optimum depends on the start, so that more starts are tried.
FEW_SEQUENCES = 20


class Units(NamedTuple):
    """How rows are standardised, and which inputs ever moved in training."""

    scaling: Scaling
    used: np.ndarray


def fit_units(sequences: PackedSequences) -> Units:
    """The units in which these sequences are of size one."""
    return Units(fit_scaling(sequences), np.any(sequences.inputs != 0.0, axis=0))


def standardize(sequences: PackedSequences, units: Units) -> PackedSequences:
    """Outputs and inputs of size one; inputs that were always zero in training are left out."""
    scaled = apply_scaling(sequences, units.scaling)
    return scaled._replace(inputs=frozen(scaled.inputs[:, units.used]))


def one_blas_thread():
    """Context in which BLAS uses one thread: its matrices here are too small for more."""
    return _blas().limit(limits=1, user_api="blas")


@cache
def _blas() -> ThreadpoolController:
    """The BLAS libraries of this process; looking for them takes milliseconds."""
    return ThreadpoolController()


def make_options(estimator, latent_dim: int, varying: tuple) -> Options:
    """Options of learning from an estimator's parameters."""
    free = tuple(kind for kind in BLOCK_KINDS if kind != "x0" or estimator.initial_state != "zero")
    if estimator.initial_state != "varying":
        varying = tuple(kind for kind in varying if kind != "x0")
    return Options(
        n_states=estimator.n_states,
        latent_dim=latent_dim,
        free=free,
        varying=varying,
        cayley=estimator.transition == "cayley",
        max_iter=estimator.max_iter,
        tol=estimator.tol,
    )


def learn_best(
    sequences: PackedSequences,
    options: Options,
    n_init: int = 1,
    n_jobs: int | None = None,
    seed: int = 0,
    log: Log | None = None,
) -> Learned:
    """Learn from several random starts of W and keep the fit with the best evidence.

    All random numbers are drawn here, before any work is handed out, so that the result does not
    depend on n_jobs; `log` hears of iterations in other processes.
    """
    rng = np.random.RandomState(seed)
    points = make_draws(options.latent_dim, seed).points if options.latent_dim else np.zeros((1, 0))
    size = theta_size(
        options.n_states, sequences.inputs.shape[1], sequences.outputs.shape[1], options.free
    )
    stages = n_stages(options.n_states)
    normals = rng.standard_normal((n_init, stages, size, options.latent_dim))
    fits = Parallel(n_jobs=n_jobs)(
        delayed(heard)(log, _grow, sequences, options, points, normals[i]) for i in range(n_init)
    )
    return max(fits, key=lambda learned: learned.evidence)


def learn_again(sequences: PackedSequences, family: Family, options: Options, seed: int) -> Learned:
    """Go on learning from where an earlier fit ended."""
    k = family.loadings.shape[1]
    points = make_draws(k, seed).points if k else np.zeros((1, 0))
    with one_blas_thread():
        return resume(sequences, family, options, points)


def _grow(sequences, options, points, normals) -> Learned:
    with one_blas_thread():
        return grow(sequences, options, points, normals)


def warn_unconverged(estimator, learned: Learned) -> None:
    """Warn when the last stage of learning was cut short."""
    if not learned.converged:
        warnings.warn(
            f"{type(estimator).__name__} did not converge in max_iter={estimator.max_iter} "
            f"iterations: the bound still changed by more than tol={estimator.tol} per observed "
            "value.",
            ConvergenceWarning,
            stacklevel=5,
        )


def resolve_n_init(n_init, n_sequences: int) -> int:
    """The number of starts: 4 with few sequences and else 1 when it is "auto"."""
    if n_init != "auto":
        return n_init
    return 4 if n_sequences < FEW_SEQUENCES else 1


def density_shift(sequences: PackedSequences, units: Units) -> np.ndarray:
    """What log densities of standardised values lose in the units of y, per sequence."""
    counts = np.add.reduceat(sequences.observed, sequences.offsets[:-1], axis=0, dtype=np.float64)
    return counts @ np.log(units.scaling.output_scale)


def merge_forecasts(parts: list) -> Forecast:
    """One forecast from (rows, forecast) pairs, whose row masks together are all rows."""
    merged = []
    for name in Forecast._fields:
        pieces = [getattr(forecast, name) for _, forecast in parts]
        whole = np.empty((len(parts[0][0]), *pieces[0].shape[1:]))
        for (rows, _), piece in zip(parts, pieces, strict=True):
            whole[rows] = piece
        merged.append(whole)
    return Forecast(*merged)


def standardize_targets(targets: np.ndarray | None, units: Units) -> np.ndarray | None:
    """Targets (n_rows, n_outputs) in standardised units."""
    if targets is None:
        return None
    return (targets - units.scaling.output_mean) / units.scaling.output_scale


def paths_in_units(paths: np.ndarray, units: Units) -> np.ndarray:
    """Standardised (n_rows, n_outputs, n) in the units of y."""
    return paths * units.scaling.output_scale[:, None] + units.scaling.output_mean[:, None]
