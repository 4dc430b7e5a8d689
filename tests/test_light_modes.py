"""Posteriors with modes of little weight far from the others, against their closed form.

Where outputs are linear in z and noise is Gaussian, every component of p(z) has a Gaussian
posterior, and its share of the evidence is known.
"""

import numpy as np
import pytest
import reference
from scipy.special import logsumexp
from scipy.stats import multivariate_normal
from small_families import make_family

from mtds_sklearn._sequences import pack_sequences
from mtds_sklearn.inference._adaptive_is import infer, prior_pool
from mtds_sklearn.inference._draws import N_DRAWS, make_draws
from mtds_sklearn.inference._mixture import density, make_mixture
from mtds_sklearn.inference._pool import TARGET_SHARE, WINDOW, add_round, log_weights, weigh
from mtds_sklearn.inference._proposals import (
    Modes,
    _climb,
    _of_weight,
    first_proposal,
    next_proposal,
)
from mtds_sklearn.inference._target import make_target
from mtds_sklearn.model._latent_prior import (
    Components,
    component_log_densities,
    standard_prior,
)
from mtds_sklearn.model._task_map import natural_parameters

LATENT_DIM, N_ROWS, N_COMPONENTS = 5, 3, 8


def outputs_of(family, z):
    """Outputs (N_ROWS,) without noise."""
    nothing = (np.zeros((N_ROWS, 0)), np.zeros((N_ROWS, 1)), np.zeros((N_ROWS, 1), dtype=bool))
    psi = natural_parameters(family, z)
    return reference.simulate(psi, tuple(family.chart.shape), *nothing)[0][:, 0]


def linear_case(seed):
    """A family whose members cluster around eight lines, and a sequence far out on one of them.

    Returns the family, the sequence, and the log evidence of every component, its weight included,
    that of N(0, I) first.
    """
    rng = np.random.default_rng(seed)
    family = make_family(rng, (2, 0, 1), LATENT_DIM, noise_std=0.03)
    loadings = np.zeros_like(family.loadings)
    loadings[2:4] = 0.5 * rng.standard_normal((2, LATENT_DIM))  # x0
    loadings[4, 0] = 1.0  # offset
    means = rng.standard_normal((N_COMPONENTS, LATENT_DIM))
    means[:, 0] *= 0.5
    std = np.array([1.0, *[0.04] * (LATENT_DIM - 1)])
    weights = np.array([0.02, *[0.98 / N_COMPONENTS] * N_COMPONENTS])
    components = Components(weights, means, np.tile(np.diag(std), (N_COMPONENTS, 1, 1)))
    prior = standard_prior(LATENT_DIM)._replace(components=components)
    family = family._replace(loadings=loadings, prior=prior)
    constant = outputs_of(family, np.zeros(LATENT_DIM))
    H = np.stack([outputs_of(family, e) - constant for e in np.eye(LATENT_DIM)], axis=1)
    z = means[0] + std * rng.standard_normal(LATENT_DIM)
    z[0] = -3.5
    y = outputs_of(family, z) + family.noise_std[0] * rng.standard_normal(N_ROWS)
    noise = family.noise_std[0] ** 2 * np.eye(N_ROWS)
    log_evidence = np.log(weights) + [
        multivariate_normal(constant + H @ mean, H @ cov @ H.T + noise).logpdf(y)
        for mean, cov in [(np.zeros(LATENT_DIM), np.eye(LATENT_DIM))]
        + [(mean, np.diag(std**2)) for mean in means]
    ]
    return family, pack_sequences(np.zeros((N_ROWS, 0)), y[:, None]), log_evidence


@pytest.mark.parametrize("seed", [4, 7, 36])
def test_a_light_mode_keeps_its_share_of_the_posterior(seed):
    """Fits to weighted points leave it out, and without its points nothing tells of it."""
    family, sequence, log_evidence = linear_case(seed)
    exact = np.exp(log_evidence - logsumexp(log_evidence))
    found = infer(sequence, family, make_draws(LATENT_DIM, 0))
    assert found.log_evidence[0] == pytest.approx(logsumexp(log_evidence), abs=0.004)
    parts = component_log_densities(family.prior.components, found.z[0].T)
    shares = np.exp(parts - logsumexp(parts, axis=0)) @ np.exp(found.log_weights[0])
    np.testing.assert_allclose(shares, exact, atol=0.005)
    light = (exact > 0.002) & (exact < 0.1)
    assert light.any()
    np.testing.assert_allclose(shares[light], exact[light], rtol=0.15)
    assert found.ess[0] > TARGET_SHARE * N_DRAWS


def test_what_the_first_proposal_found_is_not_forgotten(monkeypatch):
    """However many rounds follow that do not draw there."""
    family, sequence, log_evidence = linear_case(4)
    target, draws = make_target(sequence, family), make_draws(LATENT_DIM, 0)
    pool = prior_pool(target, draws)
    proposal, _ = first_proposal(pool.v, log_weights(pool), target)
    pool = add_round(pool, proposal, target, draws, 1)
    best = pool.v[0, :, np.argmax(pool.log_target[0])]
    elsewhere = make_mixture(
        0.05, np.ones((1, 1)), best[None, None], 1e-4 * np.eye(LATENT_DIM)[None, None]
    )
    for round_ in range(2, WINDOW + 3):
        pool = add_round(pool, elsewhere, target, draws, round_)
    assert len(pool.proposals) == WINDOW
    found = weigh(pool, N_DRAWS).log_evidence[0]
    assert found == pytest.approx(logsumexp(log_evidence), abs=0.1)


def test_a_posterior_with_one_mode_does_not_notice_those_with_several(rng):
    """They share arrays, but no component."""
    family, sequence, _ = linear_case(0)
    two = pack_sequences(
        np.zeros((2 * N_ROWS, 0)),
        np.tile(sequence.outputs, (2, 1)),
        labels=np.repeat([0, 1], N_ROWS),
    )
    target = make_target(two, family)
    pool = prior_pool(target, make_draws(LATENT_DIM, 0))
    first = log_weights(pool)
    means = rng.standard_normal((2, 3, LATENT_DIM))
    modes = Modes(means, np.tile(np.eye(LATENT_DIM), (2, 3, 1, 1)), np.ones((2, 3)))
    modes.shares[0] = 0.0
    alone = next_proposal(pool.v, first, target)
    together = next_proposal(pool.v, first, target, modes)
    ours, theirs = (density(q, pool.v, pool.prior) for q in (together, alone))
    np.testing.assert_allclose(ours[0], theirs[0], rtol=1e-12)
    assert np.abs(ours[1] / theirs[1] - 1.0).max() > 0.1


def test_only_modes_of_weight_stay_where_there_are_two():
    shares = np.array([[1.0, 0.5, 1e-3, 1e-9], [1.0, 1e-9, 0.0, 0.0]])
    modes = Modes(np.zeros((2, 4, 1)), np.ones((2, 4, 1, 1)), shares)
    kept = _of_weight(modes)
    np.testing.assert_array_equal(kept.shares, [[1.0, 0.5, 1e-3], [0.0, 0.0, 0.0]])
    assert _of_weight(Modes(*(part[1:] for part in modes))) is None


def test_a_climb_goes_as_far_as_a_component_reaches():
    """The mode of a wide component may be where N(0, I) has no mass."""
    family, _, _ = linear_case(0)
    components = family.prior.components
    factors = components.factors.copy()
    factors[0, 0, 0] = 5.0
    prior = family.prior._replace(components=components._replace(factors=factors))
    family, z = family._replace(prior=prior), components.means[0].copy()
    z[0] = 12.0
    target = make_target(
        pack_sequences(np.zeros((N_ROWS, 0)), outputs_of(family, z)[:, None]), family
    )
    centre = components.means[:1].T[None]
    found, _, _ = _climb(centre, target, np.array([1e-6]))
    np.testing.assert_allclose(found[0, 0], z, atol=0.2)
