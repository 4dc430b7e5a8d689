"""From packed rows in the user's units to a learned family, for all three estimators."""

from functools import cache
from typing import NamedTuple

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from sklearn.utils.parallel import Parallel, delayed
from threadpoolctl import ThreadpoolController

from mtds_sklearn._progress import Log, heard
from mtds_sklearn._scaling import Scaling, apply_scaling, fit_scaling
from mtds_sklearn._sequences import PackedSequences, frozen, observed_counts, unpack_rows
from mtds_sklearn._transform_fit import NAMES, fit_transform
from mtds_sklearn._transforms import Transform, along
from mtds_sklearn._warnings import warn_caller
from mtds_sklearn.estimators._checks import StrOptions
from mtds_sklearn.estimators._crew import crew_of
from mtds_sklearn.inference._draws import make_draws
from mtds_sklearn.inference._forecast import Forecast, in_units
from mtds_sklearn.inference._image import Image
from mtds_sklearn.learning._growth import Learned, Options, n_stages, resume, theta_size
from mtds_sklearn.learning._latent_shape import fit_latent_shape
from mtds_sklearn.learning._left_out import learn_from_left_out
from mtds_sklearn.learning._rest import learn_after_growth
from mtds_sklearn.learning._sample_growth import grow_from_sample
from mtds_sklearn.model._lds import LDS
from mtds_sklearn.model._noise import Growth, with_growth_weights
from mtds_sklearn.model._task_map import Family

# Constraint of the parameter `y_transform`; `fit_transform` checks the rest.
Y_TRANSFORMS = [StrOptions(set(NAMES)), tuple, list, None]
BLOCK_KINDS = ("A", "B", "C", "D", "offset", "x0")
# What differs between sequences if nothing is said, and what may.
ALL_KINDS = (*BLOCK_KINDS, "K")
VARYING_KINDS = (*ALL_KINDS, "noise")
# Below this many sequences the optimum depends on the start, so that more starts are tried.
FEW_SEQUENCES = 20
# States that n_states="auto" may find.
MOST_STATES = 16


class Units(NamedTuple):
    """How rows are standardised, and which inputs ever moved in training.

    Outputs are transformed, then scaled; or their noise grows with them.
    """

    scaling: Scaling
    used: np.ndarray
    transform: Transform | None = None
    growth: Growth | None = None

    @property
    def image(self) -> Image | None:
        """From standardised outputs to y, for moments; None if y is only rescaled."""
        return None if self.transform is None else self._inverse_within

    def _inverse_within(self, scaled: np.ndarray) -> np.ndarray:
        return self.transform.inverse_within(_rescaled(scaled, self.scaling))


def fit_units(estimator, sequences: PackedSequences) -> Units:
    """The units in which f(y), with f of `y_transform`, and inputs are of size one."""
    who = type(estimator).__name__
    transform = fit_transform(estimator.y_transform, outputs_of_rows(sequences), who=who)
    return units_for(sequences, transform)


def units_for(sequences: PackedSequences, transform: Transform | None) -> Units:
    """The units in which transformed outputs and inputs are of size one."""
    used = np.any(sequences.inputs != 0.0, axis=0)
    return Units(fit_scaling(_transformed(sequences, transform)), used, transform)


def standardize(sequences: PackedSequences, units: Units) -> PackedSequences:
    """Outputs and inputs of size one; inputs that were always zero in training are left out."""
    scaled = apply_scaling(_transformed(sequences, units.transform), units.scaling)
    scaled = with_growth_weights(scaled, units.growth)
    if units.used.all():
        return scaled
    return scaled._replace(inputs=frozen(scaled.inputs[:, units.used]))


def _transformed(sequences: PackedSequences, transform: Transform | None) -> PackedSequences:
    if transform is None:
        return sequences
    outputs = transform.forward(_with_gaps(sequences))
    return sequences._replace(outputs=frozen(np.where(sequences.observed, outputs, 0.0)))


def outputs_of_rows(sequences: PackedSequences) -> np.ndarray:
    """Outputs in the caller's order, whose rows messages name; NaN where not observed."""
    return unpack_rows(_with_gaps(sequences), sequences)


def _with_gaps(sequences: PackedSequences) -> np.ndarray:
    """Outputs, NaN where not observed."""
    return np.where(sequences.observed, sequences.outputs, np.nan)


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
    free += ("noise",) * ("noise" in varying)
    if estimator.initial_state != "varying":
        varying = tuple(kind for kind in varying if kind != "x0")
    specific = getattr(estimator, "specific_variances", False)
    if specific is True and estimator.sequence_noise:
        raise ValueError(
            f"{type(estimator).__name__}: specific variances are integrated out where noise is the "
            "same for all sequences; got specific_variances=True with sequence_noise=True. Set "
            'one of them to False, or specific_variances="auto", which then finds none.'
        )
    return Options(
        n_states=most_states(estimator),
        latent_dim=latent_dim,
        free=free,
        varying=varying,
        cayley=estimator.transition == "cayley",
        max_iter=estimator.max_iter,
        tol=estimator.tol,
        disturbance=getattr(estimator, "disturbance", "none"),
        sequence_noise=getattr(estimator, "sequence_noise", False),
        find_latents=getattr(estimator, "latent_dim", 0) == "auto",
        specific={True: "all", False: "none"}.get(specific, specific),
    )


def most_states(estimator) -> int:
    """The limit of the number of states; growth ends long before it when it is "auto"."""
    return MOST_STATES if estimator.n_states == "auto" else estimator.n_states


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
    with crew_of(n_jobs, len(sequences.labels)):
        if n_init == 1:
            best = heard(log, _grow, sequences, options, points, normals[0])
        else:
            fits = Parallel(n_jobs=n_jobs)(
                delayed(heard)(log, _grow, sequences, options, points, start) for start in normals
            )
            best = max(fits, key=lambda learned: learned.evidence)
        with one_blas_thread():
            return learn_after_growth(sequences, best, options, points, seed)


def learn_again(sequences: PackedSequences, family: Family, options: Options, seed: int) -> Learned:
    """Go on learning from where an earlier fit ended."""
    k = family.loadings.shape[1]
    points = make_draws(k, seed).points if k else np.zeros((1, 0))
    with one_blas_thread():
        return resume(sequences, family, options, points)


def with_latent_shape(
    sequences: PackedSequences, learned: Learned, options: Options, seed: int
) -> Learned:
    """The learned family with p(z), and with what few sequences cannot show of it."""
    with one_blas_thread():
        known = (learned.family, learned.posterior)
        prior = fit_latent_shape(*known, sequences.weights, sequences)
        learned = learned._replace(family=learned.family._replace(prior=prior))
        return learn_from_left_out(sequences, learned, options, seed)


def _grow(sequences, options, points, normals) -> Learned:
    with one_blas_thread():
        return grow_from_sample(sequences, options, points, normals)


def warn_unconverged(estimator, learned: Learned) -> None:
    """Warn when the last stage of learning was cut short."""
    if not learned.converged:
        warn_caller(
            f"{type(estimator).__name__} did not converge in max_iter={estimator.max_iter} "
            f"iterations: the bound still changed by more than tol={estimator.tol} per observed "
            "value. More iterations (max_iter) or a larger tol end it.",
            ConvergenceWarning,
        )


def resolve_n_init(n_init, n_sequences: int, options: Options) -> int:
    """The number of starts: when it is "auto" 4 with few sequences, 2 with many latents, else 1."""
    if n_init != "auto":
        return n_init
    if n_sequences < FEW_SEQUENCES:
        return 4
    return 2 if options.find_latents else 1


def density_shift(sequences: PackedSequences, units: Units) -> np.ndarray:
    """What log densities of standardised values lose in the units of y, per sequence."""
    shift = observed_counts(sequences) @ np.log(units.scaling.output_scale)
    if units.transform is None:
        return shift
    gain = np.nansum(units.transform.log_slope(_with_gaps(sequences)), axis=1)
    return shift - np.add.reduceat(gain, sequences.offsets[:-1])


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
    if units.transform is not None:
        targets = units.transform.forward(targets)
    return (targets - units.scaling.output_mean) / units.scaling.output_scale


def outputs_in_units(outputs: np.ndarray, units: Units) -> np.ndarray:
    """Standardised (n_rows, n_outputs, ...) in the units of y."""
    values = _rescaled(outputs, units.scaling)
    if units.transform is None:
        return values
    with np.errstate(over="ignore"):  # a quantile beyond the largest float is infinite
        return units.transform.inverse(values)


def _rescaled(outputs: np.ndarray, scaling: Scaling) -> np.ndarray:
    return outputs * along(scaling.output_scale, outputs) + along(scaling.output_mean, outputs)


def forecast_in_units(forecast: Forecast, units: Units, targets: np.ndarray | None) -> Forecast:
    """A forecast of standardised outputs, moments those of `units.image`, in the units of y.

    `targets` (n_rows, n_outputs) are those of the log densities, in the units of y.
    """
    if units.transform is None:
        return in_units(forecast, units.scaling)
    log_density = forecast.log_density - np.log(units.scaling.output_scale)
    if targets is not None:
        log_density = log_density + units.transform.log_slope(targets)
    quantiles = outputs_in_units(forecast.quantiles, units)
    return forecast._replace(quantiles=quantiles, log_density=log_density)


def systems_in_units(lds: LDS, units: Units) -> LDS:
    """Standardised systems (n_systems, ...) in the units of the inputs and of f(y).

    States stay as they are; inputs that were always zero get columns of zeros.
    """
    mean, scale = units.scaling.output_mean, units.scaling.output_scale
    from_inputs = np.diag(1.0 / units.scaling.input_scale)[units.used]
    return lds._replace(
        B=lds.B @ from_inputs,
        C=scale[:, None] * lds.C,
        D=scale[:, None] * (lds.D @ from_inputs),
        offset=scale * lds.offset + mean,
        K=lds.K / scale,
    )
