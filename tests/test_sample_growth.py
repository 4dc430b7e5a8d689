"""Growth on a sample of many sequences, then with all of them."""

import numpy as np
import pytest
from small_families import ALL_KINDS, pack
from test_growth import found, noisy, oscillations

from mtds_sklearn._scaling import apply_scaling, fit_scaling
from mtds_sklearn._sequences import select_sequences
from mtds_sklearn.learning import _sample_growth
from mtds_sklearn.learning._growth import Options, grow, n_stages, theta_size
from mtds_sklearn.learning._sample_growth import grow_from_sample, sample_size
from mtds_sklearn.model._likelihood import evaluations, log_likelihood
from mtds_sklearn.model._task_map import natural_parameters


def setting(sequences, n_states, latent_dim=2):
    scaled = apply_scaling(sequences, fit_scaling(sequences))
    rng = np.random.default_rng(0)
    shape = (n_stages(8), theta_size(8, 0, 1, ALL_KINDS), latent_dim)
    normals, points = rng.standard_normal(shape), rng.standard_normal((256, latent_dim))
    options = Options(n_states, latent_dim, ALL_KINDS, ALL_KINDS, False, 60, 2e-5)
    return scaled, options, points, normals


def log_fit(learned, scaled):
    """Mean log density of all sequences at their posterior means, in nats."""
    psi = natural_parameters(learned.family, learned.posterior.mean)
    args = (evaluations(scaled), learned.family.chart, learned.family.noise_std)
    return np.mean(log_likelihood(psi, *args))


@pytest.fixture
def small_samples(monkeypatch):
    monkeypatch.setattr(_sample_growth, "MOST_GROWN", 12)


@pytest.mark.parametrize(
    ("n", "n_rows", "latent_dim", "size"),
    [
        (40, 1000, 2, 256),  # few: all of them
        (1000, 20, 2, 256),  # short
        (1000, 200, 2, 150),  # of so many values
        (1000, 2000, 2, 64),  # long, but no fewer than this
        (1000, 2000, 10, 160),  # that may differ in many ways
        (300, 200, 2, 150),  # half of them
        (290, 200, 2, 256),  # more than half of them
    ],
)
def test_a_sample_has_enough_values_and_sequences(n, n_rows, latent_dim, size):
    sequences = pack(np.zeros((n * n_rows, 0)), np.ones((n * n_rows, 1)), (n_rows,) * n)
    assert sample_size(sequences, latent_dim) == size


def test_few_sequences_are_grown_as_ever(rng):
    sequences, _ = noisy(rng, oscillations(rng, 10, 20))
    arguments = setting(sequences, 2)
    some, all_at_once = grow_from_sample(*arguments), grow(*arguments)
    np.testing.assert_array_equal(some.family.loadings, all_at_once.family.loadings)
    assert some.evidence == all_at_once.evidence


def test_a_sample_is_enough_to_find_the_family_of_all(rng, small_samples):
    sequences, _ = noisy(rng, oscillations(rng, 40, 30))
    arguments = setting(sequences, 4)
    some, all_at_once = grow_from_sample(*arguments), grow(*arguments)
    assert found(some) == found(all_at_once) == 2
    assert len(some.posterior.mean) == 40
    assert all(len(each.posterior.mean) == 12 for each in some.smaller)
    assert abs(log_fit(some, arguments[0]) - log_fit(all_at_once, arguments[0])) < 0.1
    assert some.stages[-1].n_states == 4
    assert not some.stages[-1].kept


def test_all_sequences_may_ask_for_states_that_a_sample_does_not(rng, small_samples, monkeypatch):
    """The sample is made to hold sequences without the second oscillation."""
    first, second = oscillations(rng, 40, 30), oscillations(rng, 40, 30, low=0.9, high=1.3)
    second[:12] = 0.0
    sequences, _ = noisy(rng, first + second)
    monkeypatch.setattr(
        _sample_growth, "spread_sample", lambda left, n: select_sequences(left, np.arange(n))
    )
    learned = grow_from_sample(*setting(sequences, 4, latent_dim=4))
    assert found(learned) == 4
    assert found(learned.smaller[0]) == 2


def test_sequences_without_values_get_the_prior(rng, small_samples):
    sequences, _ = noisy(rng, oscillations(rng, 30, 20))
    outputs = np.array(sequences.outputs)
    outputs[: 20 * 5] = np.nan
    unseen = pack(np.zeros((600, 0)), outputs, (20,) * 30)
    learned = grow_from_sample(*setting(unseen, 2))
    np.testing.assert_array_equal(learned.posterior.mean[:5], 0.0)
    assert np.all(np.any(learned.posterior.mean[5:] != 0.0, axis=1))
