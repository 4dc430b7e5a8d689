"""What the comparison in `benchmarks` rests on: rivals' likelihoods, and oracles' families."""

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.special import ndtr
from scipy.stats import multivariate_normal

from mtds_sklearn import datasets

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
if not BENCHMARKS.exists():  # as in an installed copy of the tests
    pytest.skip("benchmarks are not here", allow_module_level=True)
sys.path.insert(0, str(BENCHMARKS))

import made_families  # noqa: E402
from rivals.conditioning import condition  # noqa: E402
from rivals.random_effects import (  # noqa: E402
    PRIOR_COUNT,
    PRIOR_STD,
    Effects,
    em_step,
    log_likelihood,
    whitened_moments,
)
from rivals.response_bank import Pole, block  # noqa: E402
from rivals.true_families import TRUE_FAMILIES  # noqa: E402
from sequences import sequences_of  # noqa: E402


def positive_definite(rng, n):
    factor = rng.standard_normal((n, n))
    return factor @ factor.T + 0.1 * np.eye(n)


# ------------------------------------------------------------------------------- conditioning


@pytest.mark.parametrize("horizon", [None, 1])
def test_conditioning_is_that_of_a_normal_distribution(rng, horizon):
    mean, cov = rng.standard_normal((5, 2)), positive_definite(rng, 10)
    known = rng.standard_normal((5, 2))
    known[rng.random((5, 2)) < 0.3] = np.nan
    actual = condition(mean, cov, known, horizon)
    for row in range(5):
        for output in range(2):
            given = np.isfinite(known)
            if horizon:
                given[row:] = False
            at, target = np.flatnonzero(given), 2 * row + output
            weights = np.linalg.solve(cov[np.ix_(at, at)], cov[at, target])
            shift = weights @ (known - mean).ravel()[at]
            variance = cov[target, target] - weights @ cov[at, target]
            np.testing.assert_allclose(actual[0][row, output], mean[row, output] + shift)
            expected = np.sqrt(max(variance, 1e-12 * cov[target, target]))
            np.testing.assert_allclose(actual[1][row, output], expected, atol=1e-6)


# -------------------------------------------------------------------------------- mixed model


def mixed_case(rng):
    """Designs and outputs with gaps and unequal lengths, and a model of two outputs."""
    lengths = (6, 4, 7, 5, 6, 3)
    designs = [np.column_stack([np.ones(n), rng.standard_normal(n)]) for n in lengths]
    outputs = [rng.standard_normal((n, 2)) for n in lengths]
    for y in outputs:
        y[rng.random(y.shape) < 0.2] = np.nan
    effects = Effects(
        rng.standard_normal(4), np.zeros((4, 4)), positive_definite(rng, 4),
        np.array([0.5, 0.8]), share=0.6, time=2.0,
    )  # fmt: skip
    return designs, outputs, effects


def test_the_likelihood_is_that_of_whole_curves(rng):
    designs, outputs, effects = mixed_case(rng)
    expected = 0.0
    for Z, y in zip(designs, outputs, strict=True):
        mean, cov = effects.moments(Z)
        seen = np.isfinite(y).ravel()
        expected += multivariate_normal.logpdf(
            y.ravel()[seen], mean.ravel()[seen], cov[np.ix_(seen, seen)]
        )
    moments = whitened_moments(designs, outputs, effects.share, effects.time)
    actual = log_likelihood(moments, effects) - 0.5 * moments.counts.sum() * np.log(2 * np.pi)
    np.testing.assert_allclose(actual, expected)


def test_em_never_falls(rng):
    designs, outputs, effects = mixed_case(rng)
    moments = whitened_moments(designs, outputs, effects.share, effects.time)

    def penalised(effects):
        inverse = np.linalg.inv(effects.omega)
        log_det = np.linalg.slogdet(effects.omega)[1]
        prior = PRIOR_COUNT * (log_det + PRIOR_STD**2 * np.trace(inverse))
        return log_likelihood(moments, effects) - 0.5 * prior

    values = []
    for _ in range(15):
        effects = em_step(moments, effects)
        values.append(penalised(effects))
    assert np.all(np.diff(values) > -1e-8)
    assert values[-1] > values[0] + 0.1


def test_a_block_is_the_response_of_its_pole(rng):
    u = rng.standard_normal((9, 1))
    t = np.arange(9)
    pole = 0.9 * np.exp(0.7j)
    columns = block(u, Pole(0.9, 0.7))
    np.testing.assert_allclose(columns[:, 0], np.real(pole**t))
    np.testing.assert_allclose(columns[:, 2], np.imag(pole**t), atol=1e-12)
    filtered = [np.sum(pole ** (s - t[: s + 1]) * u[: s + 1, 0]) for s in t]
    np.testing.assert_allclose(columns[:, 1], np.real(filtered))
    np.testing.assert_allclose(columns[:, 3], np.imag(filtered), atol=1e-12)
    np.testing.assert_allclose(block(u, Pole(0.5, 0.0))[:, 0], 0.5**t)


# ------------------------------------------------------------------------------------ oracles


def place(values, low, high):
    return (values - low) / (high - low)


def places_of(name, parameters):
    """Coordinates in the unit cube of the sequences of a bunch."""
    p = parameters
    if name == "one oscillator":
        return [place(p["frequency"], 6.75, 36), place(p["half_life"], 4, 80)]
    if name == "two oscillators":
        (slow, fast), (slow_life, fast_life) = p["frequency"].T, p["half_life"].T
        columns = [place(slow, 6.75, 18), place(slow_life, 4, 80)]
        columns += [place(fast, 22.5, 36), place(fast_life, 8, 60)]
        return [column[:, None] for column in columns]
    if name == "drug response":
        rates = np.log(p["rates"] / [0.12, 0.11, 0.055, 0.3]) / 0.3
        sensitivity = np.log(p["sensitivity"] / [8, 12]) / 0.3
        return [ndtr(rates), ndtr(sensitivity), ndtr((p["offset"] - [125, 94]) / [12, 3])]
    if name in ("stores", "promotions"):
        profile = (p["x0"][:, :6] - [0.4, -0.2, 0.2, 0.1, -0.1, 0.1]) / 0.15
        carry_over = place(p["carry_over"], 0.4, 0.9)[:, None]
        effects = np.stack([p["B"][:, 6] / 0.3, place(p["D"][:, 0], 0.1, 0.6)], axis=2)
        responses = [carry_over, effects.reshape(len(effects), -1)]
        return [ndtr(profile), ndtr((p["offset"] - 3) / 0.5), *responses]
    if name == "bouncing balls":
        ranges = {"initial_height": (0.5, 2), "initial_speed": (-1, 1)}
        ranges |= {"gravity": (6, 12), "restitution": (0.6, 0.95)}
        return [place(p[key], *ends)[:, None] for key, ends in ranges.items()]
    return [ndtr(p["z"])]


MAKERS = {
    "one oscillator": lambda: datasets.make_oscillators(3, n_oscillators=1, random_state=0),
    "two oscillators": lambda: datasets.make_oscillators(3, random_state=0),
    "eight outputs": lambda: made_families.make_eight_outputs(3, random_state=0),
    "drug response": lambda: datasets.make_drug_response(3, random_state=0),
    "stores": lambda: datasets.make_stores(3, random_state=0),
    "promotions": lambda: made_families.make_promotions(3, random_state=0),
    "bouncing balls": lambda: datasets.make_bouncing_balls(3, random_state=0),
}


@pytest.mark.parametrize("name", MAKERS)
def test_oracles_know_the_families_as_they_are_made(name):
    bunch = MAKERS[name]()
    places = np.concatenate(places_of(name, bunch.parameters), axis=1)
    mean = bunch.mean.reshape(len(bunch.groups), -1)
    for i, sequence in enumerate(sequences_of(bunch)):
        said = TRUE_FAMILIES[name].says(places[i : i + 1], sequence, 0)
        np.testing.assert_allclose(said.mean[0], mean[bunch.groups == i], rtol=1e-8, atol=1e-9)


def test_the_kalman_filter_forecasts_as_the_covariance_of_all_values_does(rng):
    sequence = sequences_of(made_families.make_pushed_oscillators(1, 12, random_state=0))[0]
    places, n_known = rng.random((1, 4)), 8
    said = TRUE_FAMILIES["oscillators, pushed"].says(places, sequence, n_known)
    mean = TRUE_FAMILIES["two oscillators"].says(places, sequence, n_known).mean[0]
    half_life = np.array([4, 8]) + places[0, 1::2] * [76, 52]
    frequency = np.deg2rad([6.75, 22.5] + places[0, 0::2] * [11.25, 13.5])
    # Both states of a block are pushed alike and a rotation keeps that so: only lags matter.
    t = np.arange(12)
    radius = 0.5 ** (1 / half_life)
    pushes = [
        sum(r ** (s + u - 2 * j) * np.cos(w * (s - u)) for j in range(1, min(s, u) + 1))
        for r, w in zip(radius, frequency, strict=True)
        for s in t
        for u in t
    ]
    cov = made_families.PUSH_STD**2 * np.reshape(pushes, (2, 12, 12)).sum(axis=0)
    known = np.where(t[:, None] < n_known, sequence.outputs, np.nan)
    expected = condition(mean, cov + 0.05**2 * np.eye(12), known, 1)
    np.testing.assert_allclose(said.mean[0], expected[0], rtol=1e-8)
    np.testing.assert_allclose(said.scale[0], expected[1], rtol=1e-8)
    total = multivariate_normal.logpdf(
        known[:n_known, 0], mean[:n_known, 0], (cov + 0.05**2 * np.eye(12))[:n_known, :n_known]
    )
    np.testing.assert_allclose(
        said.log_likelihood[0, -1] - 0.5 * n_known * np.log(2 * np.pi), total
    )
