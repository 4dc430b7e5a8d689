"""What a learned family gives beside forecasts: posteriors of z, samples, and systems."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.utils import check_random_state
from sklearn.utils.validation import check_is_fitted

from mtds_sklearn._sequences import resolve_rows, select_sequences
from mtds_sklearn.estimators._checks import check_count
from mtds_sklearn.estimators._fitting import (
    one_blas_thread,
    outputs_in_units,
    standardize,
    systems_in_units,
)
from mtds_sklearn.estimators._known_family import (
    KnownFamily,
    family_particles,
    particles_at,
    warn_thin,
)
from mtds_sklearn.estimators._sequence_posterior import SequencePosterior, Setting
from mtds_sklearn.inference._forecast import forecast_rows
from mtds_sklearn.inference._levels import with_new_levels
from mtds_sklearn.inference._online import start_online
from mtds_sklearn.inference._paths import sample_paths
from mtds_sklearn.model._latent_prior import latents_from_normal
from mtds_sklearn.model._lds import LDS, lds_from_natural
from mtds_sklearn.model._task_map import Family, latent_prior, n_shared, natural_parameters


class FamilyMethods:
    """Methods of an estimator that has learned a family: posteriors, samples and systems.

    Beside `BaseLDS`, whose checks it uses; the fitted attributes are those of `MTLDSRegressor`.
    """

    def sequence_posterior(
        self,
        X: ArrayLike,
        y: ArrayLike,
        *,
        groups: ArrayLike | None = None,
        times: ArrayLike | None = None,
    ) -> dict[Any, SequencePosterior]:
        """Posterior of each sequence's z given its rows, ready to be updated with more.

        Parameters
        ----------
        X, y, groups, times : array-like
            As in `fit`: the rows seen so far, each sequence from its first row; NaN in y is
            unobserved.

        Returns
        -------
        posteriors : dict of label to SequencePosterior
            In order of first appearance.

        Raises
        ------
        ValueError
            As in `predict`.
        """
        check_is_fitted(self)
        packed = self._pack_known(X, y, groups, times, name="y")
        known = self._known_family()
        names = (list(getattr(self, "feature_names_in_", [])), self._y_names_)
        setting, labels = Setting(known, self._y_ndim_, *names), packed.labels.tolist()
        with one_blas_thread():
            scaled = standardize(packed, known.units)
            parts = start_online(scaled, known.family, known.draws())
        warn_thin(known, labels, np.array([part.ess for part in parts]))
        return {
            label: SequencePosterior(label, part, setting)
            for label, part in zip(labels, parts, strict=True)
        }

    def sample_y(
        self,
        X: ArrayLike,
        n_samples: int = 1,
        *,
        groups: ArrayLike | None = None,
        times: ArrayLike | None = None,
        y_context: ArrayLike | None = None,
        random_state=None,
    ) -> np.ndarray:
        """Sample paths of the outputs of sequences, noise included.

        Parameters
        ----------
        X : array-like of shape (n_rows, n_inputs)
            Inputs.
        n_samples : int, default=1
            Paths per sequence; each is one draw of z and of the noise.
        groups, times, y_context : array-like, default=None
            As in `predict`.
        random_state : int, RandomState instance or None, default=None
            Source of the draws.

        Returns
        -------
        samples : ndarray of shape (n_rows, n_samples) or (n_rows, n_outputs, n_samples)
            In the units of y.

        Raises
        ------
        ValueError
            As in `predict`, or if `n_samples` is no number of paths.
        """
        check_is_fitted(self)
        who = f"{type(self).__name__}.sample_y"
        n_samples = check_count(n_samples, name="n_samples", who=who)
        context = self._pack_known(X, y_context, groups, times, name="y_context")
        known = self._known_family()
        scaled = standardize(context, known.units)
        with one_blas_thread():
            particles = family_particles(known, scaled)
        paths = sample_paths(scaled, particles, n_samples, check_random_state(random_state))
        return self._unpack(outputs_in_units(paths, known.units), context)

    def sample_sequences(
        self, X: ArrayLike, n_sequences: int = 1, *, z: ArrayLike | None = None, random_state=None
    ) -> tuple[np.ndarray, np.ndarray]:
        """New members of the family, all driven by the same inputs.

        Parameters
        ----------
        X : array-like of shape (n_steps, n_inputs)
            Inputs of one sequence, in the order of time.
        n_sequences : int, default=1
            Number of members to draw from the prior of z; not used when `z` is given.
        z : array-like of shape (n_sequences, n_latents), default=None
            Latents to use, as in `posterior_mean_`: points on a line interpolate along the
            manifold, the posterior mean of one sequence with the inputs of another transfers its
            style. Those of specific variances may be left out, and are zero then. The outputs have
            no noise; with a `y_transform` they are medians.
        random_state : int, RandomState instance or None, default=None
            Source of the draws.

        Returns
        -------
        y : ndarray of shape (n_sequences, n_steps) or (n_sequences, n_steps, n_outputs)
            Outputs, in the units of y.
        z : ndarray of shape (n_sequences, n_latents)
            Their latents.

        Raises
        ------
        ValueError
            If `z` has another number of columns or is not finite, the row index of
            `X` tells of several sequences, or `n_sequences` is no number of them.
        """
        check_is_fitted(self)
        who = f"{type(self).__name__}.sample_sequences"
        n_sequences = check_count(n_sequences, name="n_sequences", who=who)
        rng = check_random_state(random_state)
        given = z is not None
        k = self.posterior_mean_.shape[1]
        normal, uniform = rng.standard_normal((n_sequences, k)), rng.uniform(size=n_sequences)
        if given:
            z = _check_latents(z, self.task_map_, who)
        else:
            z = latents_from_normal(latent_prior(self.task_map_), normal, uniform)
        _check_one_sequence(X, who)
        stranger = np.full(len(X), object(), dtype=object)  # a label that nobody has
        packed = self._pack_known(X, None, stranger, np.arange(len(X)), name="y_context")
        scaled = select_sequences(standardize(packed, self._units_), np.zeros(len(z), dtype=int))
        particles = particles_at(self.task_map_, z[:, None])
        if given:
            paths = forecast_rows(scaled, particles, np.empty(0), None).mean[..., None]
        else:
            psi = with_new_levels(particles.psi, self.task_map_, rng)
            paths = sample_paths(scaled, particles._replace(psi=psi), 1, rng)
        y = outputs_in_units(paths, self._units_)
        y = y.reshape(len(z), -1, self.n_outputs_)
        return (y[..., 0] if self._y_ndim_ == 1 else y), z

    def systems(self, z: ArrayLike | None = None) -> LDS:
        """System of each sequence as matrices, in the units of X and y.

        With them a sequence obeys ::

            x_t = s_t + B u_t,   s_1 = x0,   s_{t+1} = A (x_t + K (y_t - yhat_t)),
            yhat_t = C x_t + D u_t + offset.

        Parameters
        ----------
        z : array-like of shape (n_systems, n_latents), default=None
            Latents as in `sample_sequences`; None: the posterior means of the training sequences,
            one for each of `labels_`.

        Returns
        -------
        systems : LDS
            Arrays named after these matrices, one system after the other along the first axis: `A`
            of shape (n_systems, n, n), `B` (n_systems, n, n_inputs), `C` (n_systems, n_outputs, n),
            `D` (n_systems, n_outputs, n_inputs), `offset` (n_systems, n_outputs), `x0`
            (n_systems, n) and `K` (n_systems, n, n_outputs). The states are the `n_states_` of the
            family, behind two for each output where there is a disturbance. With a `y_transform`
            f read f(y) for y.

        Raises
        ------
        ValueError
            If `z` has another number of columns or is not finite.
        """
        check_is_fitted(self)
        if z is None:
            z = self.posterior_mean_
        z = _check_latents(z, self.task_map_, f"{type(self).__name__}.systems")
        psi = natural_parameters(self.task_map_, z)
        return systems_in_units(lds_from_natural(psi, self.task_map_.chart.shape), self._units_)

    def _known_family(self) -> KnownFamily:
        return KnownFamily(
            self.task_map_, self._units_, self._seed_, self.labels_, self.posterior_mean_,
            self.posterior_cov_, self.noise_level_, type(self).__name__,
        )  # fmt: skip


def _check_latents(z: ArrayLike, family: Family, who: str) -> np.ndarray:
    """Latents (n_sequences, n_latents) as float64, zero where those of specific variances lack."""
    z, k = np.asarray(z, dtype=np.float64), family.loadings.shape[1]
    if z.ndim == 2 and z.shape[1] == n_shared(family):
        z = np.pad(z, ((0, 0), (0, len(family.specific))))
    if z.ndim != 2 or z.shape[1] != k:
        needed = f"(n_sequences, {k})"
        if family.specific:
            needed = f"(n_sequences, {n_shared(family)}) or {needed}"
        raise ValueError(f"{who}: z needs shape {needed}, got {z.shape}")
    n_bad = np.count_nonzero(~np.isfinite(z))
    if n_bad:
        raise ValueError(f"{who}: z must be finite; {n_bad} of {z.size} values are not")
    return z


def _check_one_sequence(X: ArrayLike, who: str) -> None:
    labels, _ = resolve_rows(X, None, None, who=who)
    n_labels = 1 if labels is None else len(set(labels))
    if n_labels > 1:
        raise ValueError(
            f"{who}: X needs the rows of one sequence, its row index tells of {n_labels}"
        )
