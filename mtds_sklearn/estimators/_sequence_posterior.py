"""`SequencePosterior`: what is known of one sequence, immutable, updated as its rows arrive."""

from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_random_state

from mtds_sklearn._sequences import PackedSequences, frozen, pack_sequences
from mtds_sklearn._transforms import check_domain
from mtds_sklearn.estimators._checks import check_count, check_levels, check_names
from mtds_sklearn.estimators._fitting import (
    density_shift,
    forecast_in_units,
    one_blas_thread,
    outputs_in_units,
    standardize,
    standardize_targets,
)
from mtds_sklearn.estimators._known_family import LEAST_ESS, KnownFamily, warn_thin
from mtds_sklearn.inference._forecast import Forecast, forecast_run
from mtds_sklearn.inference._moments import Moments, accurate_moments
from mtds_sklearn.inference._online import Online, extend
from mtds_sklearn.inference._paths import sample_run


class Setting(NamedTuple):
    """What all posteriors of one fitted estimator share.

    `y_ndim` is that of the y seen in fit; names are empty or None where there were none.
    """

    known: KnownFamily
    y_ndim: int
    input_names: list[str]
    output_names: list[str] | None


class SequencePosterior:
    """Posterior of one sequence's latent z given its rows so far, as weighted draws.

    Made by `MTLDSRegressor.sequence_posterior`. Immutable: `update` returns a new one.

    Parameters
    ----------
    label : hashable
        Label of the sequence.
    online : Online
        Draws, weights and states after the rows so far, standardised.
    setting : Setting
        What all posteriors of one fitted estimator share.

    Attributes
    ----------
    label : hashable
        Label of the sequence.
    mean : ndarray of shape (n_latents,)
        Posterior mean of z, with the latents of specific variances last, as in `posterior_mean_`.
    cov : ndarray of shape (n_latents, n_latents)
        Posterior covariance of z. It and the mean are worked out when one of them is first asked
        for, from draws of their own, to about 0.2 % of a standard deviation and 0.4 % of the
        variances: second moments need more draws than forecasts do. That takes a few hundredths of
        a second.
    ess : float
        Effective sample size of the draws.
    log_evidence : float
        log p(y_1, ..., y_t), in nats, for y in its own units.
    n_observed : int
        Number of observed values so far.
    n_rows : int
        Number of rows so far.
    """

    __slots__ = ("_moments", "_online", "_setting", "label")

    def __init__(self, label: Any, online: Online, setting: Setting):
        object.__setattr__(self, "label", label)
        object.__setattr__(self, "_online", online)
        object.__setattr__(self, "_setting", setting)
        object.__setattr__(self, "_moments", None)

    def __setattr__(self, name, value):
        raise AttributeError(f"SequencePosterior is immutable; cannot set {name!r}")

    def __getstate__(self):
        return (self.label, self._online, self._setting, self._moments)

    def __setstate__(self, state):
        *parts, moments = state
        self.__init__(*parts)
        object.__setattr__(self, "_moments", moments)

    def __repr__(self):
        mean = np.array2string(self.mean, precision=2)
        facts = f"n_rows={self.n_rows}, mean={mean}, ess={self.ess:.0f}"
        return f"SequencePosterior({self.label!r}, {facts})"

    @property
    def mean(self) -> np.ndarray:
        """Posterior mean of z, shape (n_latents,)."""
        return self._accurate().mean.copy()

    @property
    def cov(self) -> np.ndarray:
        """Posterior covariance of z, shape (n_latents, n_latents)."""
        return self._accurate().cov.copy()

    @property
    def ess(self) -> float:
        """Effective sample size."""
        return self._online.ess

    @property
    def log_evidence(self) -> float:
        """Log marginal likelihood of the rows so far, in nats, for y in its own units."""
        history, units = self._online.history, self._setting.known.units
        rows = history._replace(outputs=outputs_in_units(history.outputs, units))
        return self._online.log_evidence - float(density_shift(rows, units)[0])

    @property
    def n_observed(self) -> int:
        """Number of observed values."""
        return int(self._online.history.observed.sum())

    @property
    def n_rows(self) -> int:
        """Number of rows."""
        return len(self._online.history.inputs)

    def update(self, u: ArrayLike, y: ArrayLike) -> "SequencePosterior":
        """Posterior after one or more rows that follow the ones seen so far.

        Parameters
        ----------
        u : array-like of shape (n_inputs,) or (n_rows, n_inputs)
            Inputs of the new rows.
        y : float or array-like of shape (n_outputs,), (n_rows,) or (n_rows, n_outputs)
            Outputs; NaN where not observed.

        Returns
        -------
        posterior : SequencePosterior
            The receiver does not change.

        Raises
        ------
        ValueError
            If the numbers of rows, inputs or outputs or the names of columns do not fit, or a value
            of `y` is outside the domain of the `y_transform`.
        """
        known = self._setting.known
        rows = standardize(self._pack(u, y, "update"), known.units)
        online = extend(self._online, known.family, known.draws(), rows)
        if online.ess < LEAST_ESS:
            warn_thin(known, [self.label], np.array([online.ess]))
        return SequencePosterior(self.label, online, self._setting)

    def predict(self, U: ArrayLike, *, return_std: bool = False, quantiles=None):
        """Forecast the rows to come.

        Parameters
        ----------
        U : array-like of shape (n_rows, n_inputs)
            Inputs of the next rows.
        return_std : bool, default=False
            Also return the standard deviation of a new output, noise included.
        quantiles : sequence of float, default=None
            Also return these quantiles.

        Returns
        -------
        mean, std, quantiles : ndarray
            As of `MTLDSRegressor.predict`.

        Raises
        ------
        ValueError
            If `U` has another number of inputs or other names than in `fit`, or a level is not
            between 0 and 1.
        """
        levels = check_levels(quantiles, who="SequencePosterior.predict")
        forecast = self._forecast(self._pack(U, None, "predict"), levels, None)
        parts = [forecast.mean]
        if return_std:
            parts.append(forecast.std)
        if quantiles is not None:
            parts.append(forecast.quantiles)
        parts = [part[:, 0] if self._setting.y_ndim == 1 else part for part in parts]
        return parts[0] if len(parts) == 1 else tuple(parts)

    def log_density(self, U: ArrayLike, y: ArrayLike) -> np.ndarray:
        """Log density of each of the rows to come, given the rows so far alone.

        Parameters
        ----------
        U : array-like of shape (n_rows, n_inputs)
            Inputs of the next rows.
        y : array-like of shape (n_rows,) or (n_rows, n_outputs)
            Their outputs.

        Returns
        -------
        log_density : ndarray of shape (n_rows,) or (n_rows, n_outputs)
            In nats, for y in its own units; NaN where y is NaN.

        Raises
        ------
        ValueError
            If the numbers of rows, inputs or outputs or the names of columns do not fit.
        """
        rows = self._pack(U, y, "log_density")
        targets = np.where(rows.observed, rows.outputs, np.nan)
        hidden = rows._replace(observed=frozen(np.zeros_like(rows.observed)))
        density = self._forecast(hidden, np.empty(0), targets).log_density
        return density[:, 0] if self._setting.y_ndim == 1 else density

    def sample(self, U: ArrayLike, n_samples: int = 1, *, random_state=None) -> np.ndarray:
        """Sample paths of the rows to come, noise included.

        Parameters
        ----------
        U : array-like of shape (n_rows, n_inputs)
            Inputs of the next rows.
        n_samples : int, default=1
            Number of paths.
        random_state : int, RandomState instance or None, default=None
            Source of the draws.

        Returns
        -------
        samples : ndarray of shape (n_rows, n_samples) or (n_rows, n_outputs, n_samples)
            In the units of y.

        Raises
        ------
        ValueError
            If `U` has another number of inputs or other names than in `fit`, or `n_samples` is no
            number of paths.
        """
        n_samples = check_count(n_samples, name="n_samples", who="SequencePosterior.sample")
        units, rng = self._setting.known.units, check_random_state(random_state)
        rows = standardize(self._pack(U, None, "sample"), units)
        seen = self._online.history.observed
        paths = sample_run(self._online.run, self._weighed(), rows, n_samples, rng, seen)
        paths = outputs_in_units(paths, units)
        return paths[:, 0] if self._setting.y_ndim == 1 else paths

    def _forecast(self, rows: PackedSequences, levels, targets: np.ndarray | None) -> Forecast:
        """Forecast of the rows to come, in the units of y."""
        units, online = self._setting.known.units, self._online
        rows, scaled = standardize(rows, units), standardize_targets(targets, units)
        seen = online.history.observed
        forecast = forecast_run(
            online.run, self._weighed(), rows, levels, scaled, units.image, seen
        )
        return forecast_in_units(forecast, units, targets)

    def _accurate(self) -> Moments:
        """Moments of z, worked out once."""
        if self._moments is None:
            known, online = self._setting.known, self._online
            near = (online.z, online.log_weights)
            with one_blas_thread():
                moments = accurate_moments(online.history, known.family, known.seed, near)
            object.__setattr__(self, "_moments", moments)
        return self._moments

    def _weighed(self) -> tuple:
        """Log weights and noise of the particles, with a leading axis of one sequence."""
        return self._online.log_weights[None], self._setting.known.family.noise_std[None]

    def _pack(self, u: ArrayLike, y: ArrayLike | None, method: str) -> PackedSequences:
        """Rows of this sequence; vectors are one row where the number of inputs says so."""
        n_inputs = len(self._setting.known.units.used)
        n_outputs = len(self._setting.known.units.scaling.output_mean)
        who = f"SequencePosterior.{method}"
        names = (self._setting.input_names, self._setting.output_names)
        check_names(u, names[0], name="u" if method == "update" else "U", what="inputs", who=who)
        check_names(y, names[1], name="y", what="outputs", who=who)
        inputs = np.asarray(u, dtype=np.float64)
        if inputs.ndim == 1 and y is not None:
            inputs = inputs.reshape(1, -1)
        if inputs.ndim != 2 or inputs.shape[1] != n_inputs:
            raise ValueError(f"{who}: inputs need shape (n_rows, {n_inputs}), got {np.shape(u)}")
        if y is not None:
            y = np.asarray(y, dtype=np.float64)
            wanted = (len(inputs), n_outputs)
            # A vector is one row or one output; a table that only has the right size is a mistake.
            if y.shape != wanted and not (y.ndim < 2 and y.size == max(wanted) == np.prod(wanted)):
                raise ValueError(
                    f"{who}: y needs {len(inputs)} rows of {n_outputs} outputs, got shape {y.shape}"
                )
            y = y.reshape(wanted)
            check_domain(self._setting.known.units.transform, y, name="y", who=who)
        return pack_sequences(inputs, y, n_outputs=n_outputs, who=who)
