"""`sample_y` and `sample_sequences`: samples agree with the forecasts they are samples of."""

from copy import copy

import numpy as np
import pandas as pd
import pytest
from numpy.testing import assert_allclose, assert_array_equal
from scipy import stats

from mtds_sklearn import MTLDSRegressor, mask_future
from mtds_sklearn.datasets import make_oscillators

N_STEPS, N_SAMPLES = 30, 4000


@pytest.fixture(scope="module")
def data():
    return make_oscillators(n_oscillators=1, n_sequences=15, n_steps=N_STEPS, random_state=0)


@pytest.fixture(scope="module")
def model(data):
    model = MTLDSRegressor(n_states=2, latent_dim=2, random_state=0)
    return model.fit(data.X, data.y, groups=data.groups, times=data.times)


@pytest.fixture(scope="module")
def rows():
    """Two sequences that `fit` has not seen; six rows of the first are known."""
    new = make_oscillators(n_oscillators=1, n_sequences=2, n_steps=N_STEPS, random_state=1)
    known = mask_future(new.y, new.groups, new.times, 6)
    known[new.groups == 1] = np.nan
    return {"X": new.X, "groups": new.groups + 100, "times": new.times, "y_context": known}


def assert_moments(samples, mean, std):
    """Samples in the last axis have these moments, up to five standard errors."""
    n = samples.shape[-1]
    assert np.all(np.abs(samples.mean(axis=-1) - mean) < 5.0 * std / np.sqrt(n))
    kurtosis = np.mean(((samples - mean[..., None]) / std[..., None]) ** 4, axis=-1)
    error = 5.0 * np.sqrt(np.maximum(kurtosis - 1.0, 1.0) / (4.0 * n))
    assert np.all(np.abs(samples.std(axis=-1) / std - 1.0) < error)


def test_samples_have_the_moments_of_the_forecast(model, rows):
    samples = model.sample_y(n_samples=N_SAMPLES, random_state=0, **rows)
    assert samples.shape == (2 * N_STEPS, N_SAMPLES)
    assert_moments(samples, *model.predict(return_std=True, **rows))


def test_samples_of_training_sequences_have_the_moments_of_the_forecast(model, data):
    rows = {"X": data.X[:60], "groups": data.groups[:60], "times": data.times[:60]}
    samples = model.sample_y(n_samples=N_SAMPLES, random_state=1, **rows)
    assert_moments(samples, *model.predict(return_std=True, **rows))


def test_a_path_is_one_draw_of_the_latent(model, rows):
    """Rows of a path share one latent, so with nothing known they are correlated."""
    unseen = rows["groups"] == 101
    samples = model.sample_y(n_samples=N_SAMPLES, random_state=0, **rows)[unseen]
    correlation = np.corrcoef(samples[3], samples[4])[0, 1]
    assert correlation > 0.35


def test_samples_are_reproducible(model, rows):
    first = model.sample_y(n_samples=3, random_state=5, **rows)
    assert_array_equal(first, model.sample_y(n_samples=3, random_state=5, **rows))
    again = np.random.RandomState(5)
    assert_array_equal(first, model.sample_y(n_samples=3, random_state=again, **rows))
    assert np.all(first != model.sample_y(n_samples=3, random_state=6, **rows))
    assert np.all(first[:, 0] != first[:, 1])


def test_samples_come_in_the_order_of_the_rows(model, rows, rng):
    order = rng.permutation(len(rows["X"]))
    shuffled = {name: value[order] for name, value in rows.items()}
    mean, std = model.predict(return_std=True, **rows)
    samples = model.sample_y(n_samples=N_SAMPLES, random_state=0, **shuffled)
    assert_moments(samples, mean[order], std[order])


def test_new_sequences_have_shapes_and_are_reproducible(model, data):
    X = data.X[:20]
    y, z = model.sample_sequences(X, 7, random_state=0)
    assert (y.shape, z.shape) == ((7, 20), (7, 2))
    again, same_z = model.sample_sequences(X, 7, random_state=0)
    assert_array_equal(again, y)
    assert_array_equal(same_z, z)
    other, _ = model.sample_sequences(X, 7, random_state=1)
    assert np.all(other != y)
    single, _ = model.sample_sequences(X)
    assert single.shape == (1, 20)


def test_two_outputs_keep_their_axis(data):
    y = np.column_stack([data.y, 3.0 - 2.0 * data.y])
    model = MTLDSRegressor(n_states=2, latent_dim=2, n_init=1, max_iter=10, tol=1e9, random_state=0)
    model.fit(data.X, y, groups=data.groups, times=data.times)
    assert model.sample_y(data.X[:30], 4, groups=data.groups[:30]).shape == (30, 2, 4)
    paths, _ = model.sample_sequences(data.X[:20], 5, random_state=0)
    assert paths.shape == (5, 20, 2)
    noiseless, _ = model.sample_sequences(data.X[:20], z=model.posterior_mean_[:3])
    assert noiseless.shape == (3, 20, 2)
    assert_allclose(noiseless[..., 1], 3.0 - 2.0 * noiseless[..., 0], atol=0.2)


def test_the_latent_of_a_training_sequence_reproduces_its_forecast(model, data):
    y, z = model.sample_sequences(data.X[:N_STEPS], z=model.posterior_mean_)
    assert_array_equal(z, model.posterior_mean_)
    expected = model.predict(data.X, groups=data.groups, times=data.times).reshape(15, N_STEPS)
    assert_allclose(y, expected, atol=model.noise_std_[0])
    assert np.sqrt(np.mean((y - expected) ** 2)) < 0.2 * model.noise_std_[0]


def test_a_line_of_latents_gives_continuous_sequences(model, data):
    """Halving the steps on the line halves the largest change of an output."""
    start, end = model.posterior_mean_[:2]

    def largest_change(n_points):
        z = start + np.linspace(0.0, 1.0, n_points)[:, None] * (end - start)
        y, _ = model.sample_sequences(data.X[:N_STEPS], z=z)
        return np.abs(np.diff(y, axis=0)).max()

    coarse, fine = largest_change(101), largest_change(201)
    assert 0.0 < coarse < 0.2
    assert_allclose(fine, 0.5 * coarse, rtol=0.05)


def test_given_latents_are_without_noise(model, data):
    X = data.X[:N_STEPS]
    noisy, z = model.sample_sequences(X, 300, random_state=0)
    clean, _ = model.sample_sequences(X, z=z, random_state=1)
    assert_array_equal(clean, model.sample_sequences(X, z=z, random_state=2)[0])
    noise = noisy - clean
    assert_allclose(noise.std(), model.noise_std_[0], rtol=0.05)
    assert abs(noise.mean()) < 5.0 * model.noise_std_[0] / np.sqrt(noise.size)
    assert abs(np.corrcoef(noise[:, 0], noise[:, 1])[0, 1]) < 0.25


def test_inputs_may_bring_the_row_index_of_one_sequence(model, data):
    index = pd.MultiIndex.from_arrays([["p1"] * N_STEPS, np.arange(5, 5 + N_STEPS)])
    inputs = data.X[:N_STEPS]
    expected = model.sample_sequences(inputs, 2, random_state=0)
    found = model.sample_sequences(pd.DataFrame(inputs, index=index), 2, random_state=0)
    for one, other in zip(found, expected, strict=True):
        assert_array_equal(one, other)


def test_draws_of_the_prior_have_the_moments_of_a_forecast_without_context(model, data):
    X = data.X[:N_STEPS]
    y, _ = model.sample_sequences(X, N_SAMPLES, random_state=0)
    mean, std = model.predict(X, groups=np.full(N_STEPS, 999), return_std=True)
    assert_moments(y.T, mean, std)


def test_new_sequences_have_noise_levels_of_their_own(model, data):
    """Each value is then Student t around the course of its sequence."""
    levels = copy(model)
    levels.task_map_ = model.task_map_._replace(noise_dof=3.0)
    paths, z = levels.sample_sequences(data.X[:3], N_SAMPLES, random_state=0)
    course, _ = levels.sample_sequences(data.X[:3], z=z)
    standard = (paths - course) / model.noise_std_
    assert stats.kstest(standard[:, 0], stats.t(3.0).cdf).pvalue > 0.05
    assert stats.kstest(standard[:, 0], stats.norm.cdf).pvalue < 1e-6
    # One level for all rows of a sequence.
    assert stats.spearmanr(np.abs(standard[:, 0]), np.abs(standard[:, 2])).statistic > 0.1


@pytest.mark.parametrize("shape", [(2,), (4, 3), (2, 2, 2)])
def test_latents_of_a_wrong_shape_are_refused(model, data, shape):
    message = r"MTLDSRegressor.sample_sequences: z needs shape \(n_sequences, 2\), got "
    with pytest.raises(ValueError, match=message):
        model.sample_sequences(data.X[:5], z=np.zeros(shape))
