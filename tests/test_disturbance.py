"""Innovations that are not seen: variances, weights, sampled paths, forecasts at a horizon."""

import numpy as np
import pytest
import reference
from small_families import each, make_rows
from systems import make_directions, make_natural

from mtds_sklearn.inference._disturbance import (
    N_SYSTEMS,
    at_horizon,
    drive_paths,
    spread_systems,
    unseen_variances,
    variances_at_horizon,
    with_gap_weights,
)
from mtds_sklearn.model._chart import make_chart
from mtds_sklearn.model._lds import KINDS, Shape, kind_slices
from mtds_sklearn.model._task_map import Family, natural_parameters

LENGTHS = (9, 1, 6)
SHAPES = [Shape(3, 1, 2, 2), Shape(2, 0, 1, 2), Shape(4, 1, 2, 4)]


def make_case(rng, shape, missing=0.4):
    """Sequences with gaps, and one natural vector for each."""
    chart = make_chart(shape, make_directions(rng, shape), KINDS, True)
    psi = make_natural(rng, shape, len(LENGTHS))
    psi[:, kind_slices(shape)["K"]] *= 0.5
    rows = make_rows(
        rng, LENGTHS, n_inputs=shape.n_inputs, n_outputs=shape.n_outputs, missing=missing
    )
    return rows, psi, chart


@pytest.mark.parametrize("shape", SHAPES)
def test_variances_are_those_of_all_unseen_innovations(rng, shape):
    sequences, psi, chart = make_case(rng, shape)
    std = rng.uniform(0.3, 0.9, (len(psi), shape.n_outputs))
    actual = unseen_variances(
        psi[:, None], np.ones((len(psi), 1)), std, chart, (sequences.observed, sequences.offsets)
    )
    expected = [
        reference.unseen_variances(psi[i], tuple(shape), rows[2], std[i])
        for i, rows in enumerate(each(sequences))
    ]
    np.testing.assert_allclose(actual, np.concatenate(expected), rtol=1e-10, atol=1e-14)
    assert np.any(actual > 0.0)


def test_what_is_complete_is_certain(rng):
    sequences, psi, chart = make_case(rng, SHAPES[0], missing=0.0)
    std, share = np.ones((len(psi), 2)), np.ones((len(psi), 1))
    rows = (sequences.observed, sequences.offsets)
    assert np.all(unseen_variances(psi[:, None], share, std, chart, rows) == 0.0)


@pytest.mark.parametrize("shape", SHAPES)
def test_paths_have_the_variances(rng, shape):
    """Sampled noise that drives the state spreads as the variances say."""
    sequences, psi, chart = make_case(rng, shape)
    std = rng.uniform(0.3, 0.9, (len(psi), shape.n_outputs))
    rows = (sequences.observed, sequences.offsets)
    added = unseen_variances(psi[:, None], np.ones((len(psi), 1)), std, chart, rows)
    size = std * np.exp(psi[:, -1:])
    noise_std = np.repeat(size, np.diff(sequences.offsets), axis=0)
    noise = noise_std[..., None] * rng.standard_normal((*noise_std.shape, 4000))
    same = np.repeat(psi[:, :, None], 4000, axis=2)
    paths = drive_paths(noise.copy(), same, chart, rows)
    np.testing.assert_allclose(paths.var(axis=2), noise_std**2 + added, rtol=0.15)
    first = sequences.offsets[:-1]
    np.testing.assert_array_equal(paths[first], noise[first])


def test_systems_are_chosen_by_weight(rng):
    psi = np.arange(10.0)[None, None]
    weights = rng.dirichlet(np.ones(10))
    chosen, share = spread_systems(psi, np.log(weights)[None])
    assert chosen.shape == (1, N_SYSTEMS, 1)
    assert share.sum() == pytest.approx(1.0)
    counts = np.bincount(chosen[0, :, 0].astype(int), minlength=10)
    assert np.all(np.abs(counts - N_SYSTEMS * weights) <= 1.0)


@pytest.mark.parametrize("horizon", [1, 2, 4, 20])
@pytest.mark.parametrize("shape", SHAPES)
def test_forecasts_at_a_horizon_do_not_know_the_last_rows(rng, shape, horizon):
    sequences, _, chart = make_case(rng, shape)
    inputs, outputs, observed = next(each(sequences))
    psi = make_natural(rng, shape, 5)
    yhat = np.stack(
        [reference.simulate(one, tuple(shape), inputs, outputs, observed)[0] for one in psi], axis=2
    )
    innovations = np.where(observed[..., None], outputs[..., None] - yhat, 0.0)
    ends = np.array([0, len(yhat)])
    actual = at_horizon(yhat, innovations, (psi.T[None], chart), ends, horizon)
    for t in range(len(inputs)):
        known = observed & (np.arange(len(inputs)) <= t - horizon)[:, None]
        for s, one in enumerate(psi):
            expected = reference.simulate(one, tuple(shape), inputs, outputs, known)[0][t]
            np.testing.assert_allclose(actual[t, :, s], expected, rtol=1e-8, atol=1e-10)


@pytest.mark.parametrize("horizon", [1, 2, 4, 20])
@pytest.mark.parametrize("shape", SHAPES)
def test_forecasts_at_a_horizon_are_less_sure_of_all_that_was_not_seen(rng, shape, horizon):
    sequences, _, chart = make_case(rng, shape)
    observed, psi = next(each(sequences))[2], make_natural(rng, shape, N_SYSTEMS)
    psi[:, kind_slices(shape)["K"]] *= 0.5
    std = rng.uniform(0.3, 0.9, shape.n_outputs)
    systems = (psi.T[None], np.full((1, N_SYSTEMS), -np.log(N_SYSTEMS)), std, chart)
    ends = np.array([0, len(observed)])
    actual = variances_at_horizon(*systems, (observed, ends), horizon)
    for t in range(len(observed)):
        known = observed & (np.arange(len(observed)) <= t - horizon)[:, None]
        expected = [reference.unseen_variances(one, tuple(shape), known, std)[t] for one in psi]
        np.testing.assert_allclose(actual[t], np.mean(expected, axis=0), rtol=1e-8, atol=1e-14)


def make_family(rng, shape, chart):
    n_theta = len(chart.entries)
    bias = 0.3 * rng.standard_normal(n_theta)
    loadings = 0.2 * rng.standard_normal((n_theta, 2))
    return Family(chart, loadings, bias, np.full(shape.n_outputs, 0.4), np.ones(n_theta))


def test_values_after_gaps_weigh_less(rng):
    shape = SHAPES[0]
    sequences, _, chart = make_case(rng, shape)
    family = make_family(rng, shape, chart)
    weighted = with_gap_weights(sequences, family)
    mean = natural_parameters(family, np.zeros(2))
    expected = np.concatenate(
        [
            1.0
            / (1.0 + reference.unseen_variances(mean, tuple(shape), rows[2], family.noise_std) / v)
            for rows in each(sequences)
            for v in [(np.exp(mean[-1]) * family.noise_std) ** 2]
        ]
    )
    np.testing.assert_allclose(weighted.precision, np.where(sequences.observed, expected, 0.0))
    assert np.any(weighted.precision[sequences.observed] < 1.0)


def test_weights_do_not_look_ahead(rng):
    """What is missing later changes no weight of an earlier value."""
    shape = SHAPES[0]
    sequences, _, chart = make_case(rng, shape)
    family = make_family(rng, shape, chart)
    observed = sequences.observed.copy()
    observed[6:9] = False
    before, after = (
        with_gap_weights(each_, family).precision
        for each_ in (sequences, sequences._replace(observed=observed))
    )
    np.testing.assert_array_equal(before[:6], after[:6])


def test_without_a_gain_nothing_is_weighted(rng):
    shape = SHAPES[0]
    sequences, _, chart = make_case(rng, shape)
    family = make_family(rng, shape, chart._replace(gain=False))
    assert with_gap_weights(sequences, family) is sequences
