"""Inference in a fitted family: what is known of a sequence becomes weighted draws of its theta."""

from typing import NamedTuple

import numpy as np
from scipy.special import logsumexp

from mtds_sklearn._sequences import PackedSequences, are_seen, select_sequences, truncate_sequences
from mtds_sklearn._warnings import warn_caller
from mtds_sklearn.estimators._fitting import Units, merge_forecasts
from mtds_sklearn.inference._adaptive_is import Posterior, infer
from mtds_sklearn.inference._draws import N_DRAWS, Draws, make_draws
from mtds_sklearn.inference._forecast import Forecast, Particles, forecast_rows
from mtds_sklearn.inference._horizon import forecast_at_horizon
from mtds_sklearn.inference._levels import with_levels
from mtds_sklearn.inference._mixture import density, draw, make_mixture
from mtds_sklearn.learning._clusters import implied_quadratics
from mtds_sklearn.learning._components import belongings
from mtds_sklearn.learning._posterior import TaskPosterior
from mtds_sklearn.model._latent_prior import (
    latents_of,
    log_score_density,
    no_components,
    scores_from_normal,
)
from mtds_sklearn.model._task_map import Family, latent_prior, natural_parameters

# A posterior with fewer effective draws is not to be trusted.
LEAST_ESS = 100.0
# Share of the draws of a stored posterior that come from the prior.
PRIOR_SHARE = 0.25


class KnownFamily(NamedTuple):
    """What a fitted estimator knows; `mean` and `cov` are the posteriors of sequences `labels`.

    `level` are their noise levels.
    """

    family: Family
    units: Units
    seed: int
    labels: np.ndarray
    mean: np.ndarray
    cov: np.ndarray
    level: np.ndarray
    who: str

    def draws(self) -> Draws:
        """The quasi-random numbers of inference; not stored, so that a pickle stays small."""
        return make_draws(self.mean.shape[1], self.seed)


def particles_at(family: Family, z: np.ndarray) -> Particles:
    """Equally weighted particles at latents (n_sequences, n_particles, latent_dim)."""
    noise_std = np.broadcast_to(family.noise_std, (len(z), len(family.noise_std)))
    log_weights = np.full(z.shape[:2], -np.log(z.shape[1]))
    psi = natural_parameters(family, z)
    return Particles(psi, log_weights, noise_std, family.chart, family.growth)


def family_forecast(
    known: KnownFamily, scaled: PackedSequences, horizon: int | None, levels, targets
) -> Forecast:
    """Forecast every row, from all that is observed of its sequence or up to `horizon` rows before.

    The horizon means nothing to sequences of which nothing is observed.
    """
    informed = are_seen(scaled)
    parts, image = [], known.units.image
    for moving in (False, True):
        index = np.flatnonzero(informed == moving) if horizon else np.arange(len(informed))
        if len(index) == 0 or (horizon is None and moving):
            continue
        rows = np.isin(np.repeat(np.arange(len(informed)), np.diff(scaled.offsets)), index)
        part = select_sequences(scaled, index)
        wanted = None if targets is None else targets[rows]
        if moving:
            draws = known.draws()
            forecast = forecast_at_horizon(
                part, known.family, draws, horizon, levels, wanted, image
            )
        else:
            forecast = forecast_rows(part, family_particles(known, part), levels, wanted, image)
        parts.append((rows, forecast))
    return merge_forecasts(parts)


def family_particles(known: KnownFamily, scaled: PackedSequences) -> Particles:
    """Particles of every sequence: from its observed values, else what `fit` learned, else p(z)."""
    informed = are_seen(scaled)
    where = {label: i for i, label in enumerate(known.labels.tolist())}
    stored = np.array([where.get(label, -1) for label in scaled.labels.tolist()])
    recalled = ~informed & (stored >= 0)
    k = known.mean.shape[1]
    z = np.empty((len(stored), N_DRAWS, k))
    log_weights = np.full(z.shape[:2], -np.log(N_DRAWS))
    if recalled.any():
        z[recalled], log_weights[recalled] = _recall(known, stored[recalled])
    if not recalled.all():
        posterior = infer_observed(known, select_sequences(scaled, ~recalled))
        z[~recalled], log_weights[~recalled] = posterior.z, posterior.log_weights
    particles = particles_at(known.family, z)._replace(log_weights=log_weights)
    if np.isinf(known.family.noise_dof):
        return particles
    psi = np.swapaxes(with_levels(np.swapaxes(particles.psi, 1, 2), scaled, known.family), 1, 2)
    psi[recalled, :, -1] = np.log(known.level[stored[recalled], None])
    return particles._replace(psi=np.ascontiguousarray(psi))


def _recall(known: KnownFamily, stored: np.ndarray) -> tuple:
    """Weighted draws of what `fit` learned of sequences: z (n, n_draws, k) and log weights.

    Learning took N(0, I) for the prior and stored N(mean, cov); under p(z) the posterior is
    N(z; mean, cov) p(z) / N(z; 0, I). Near the mean this is a mixture of Gaussians in the scores of
    p(z), from which most draws come; the others come from p(z), which bounds the weights.
    """
    prior, draws, k = latent_prior(known.family), known.draws(), known.mean.shape[1]
    mean, factor = known.mean[stored], np.linalg.cholesky(known.cov[stored])
    learned = implied_quadratics(prior, TaskPosterior(mean, factor), k, np.ones(len(stored)))
    found = belongings(prior.components or no_components(k), learned)
    shares = np.exp(found.log_evidence - found.log_evidence.max(axis=1, keepdims=True))
    proposal = make_mixture(PRIOR_SHARE, shares, found.mean, found.cov)
    normal, component = draws.normal[0], draws.component
    # Small numbers choose the prior; how small, which of its components.
    from_prior = scores_from_normal(prior.components, normal.T, component / PRIOR_SHARE % 1.0)
    v = draw(proposal, component, normal, draws.scale[0], from_prior.T)
    log_prior = log_score_density(prior.components, v)
    z = latents_of(prior, np.swapaxes(v, 1, 2))
    standard = np.linalg.solve(factor, np.swapaxes(z - mean[:, None], 1, 2))
    log_gain = 0.5 * (np.sum(z**2, axis=2) - np.sum(standard**2, axis=1))  # N(mean, cov) / N(0, I)
    log_weights = log_gain + log_prior - np.log(density(proposal, v, np.exp(log_prior)))
    return z, log_weights - logsumexp(log_weights, axis=1, keepdims=True)


def infer_observed(known: KnownFamily, scaled: PackedSequences) -> Posterior:
    """Posterior of every sequence; rows after its last observation are left out first."""
    seen = scaled.observed.any(axis=1) * (np.arange(len(scaled.observed)) + 1)
    last = np.maximum.reduceat(seen, scaled.offsets[:-1]) - scaled.offsets[:-1]
    kept = truncate_sequences(scaled, np.maximum(last, 1))
    posterior = infer(kept, known.family, known.draws())
    warn_thin(known, scaled.labels.tolist(), posterior.ess)
    return posterior


def warn_thin(known: KnownFamily, labels: list, ess: np.ndarray) -> None:
    """Warn of sequences whose posterior rests on too few effective draws."""
    thin = np.flatnonzero(ess < LEAST_ESS)
    if len(thin):
        shown = ", ".join(f"{labels[i]!r} ({ess[i]:.0f})" for i in thin[:5])
        warn_caller(
            f"{known.who}: the posterior of {len(thin)} of {len(labels)} sequences rests on fewer "
            f"than {LEAST_ESS:.0f} effective draws; label (effective draws): {shown}"
        )
