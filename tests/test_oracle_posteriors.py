"""Posteriors in a family that is known, against quadrature that shares no code with inference."""

import sys
from pathlib import Path

import numpy as np
import pytest

BENCHMARKS = Path(__file__).parents[1] / "benchmarks"
if not BENCHMARKS.exists():
    pytest.skip("benchmarks are not here", allow_module_level=True)
sys.path.insert(0, str(BENCHMARKS))

import oracle_posteriors as oracle  # noqa: E402


@pytest.fixture(scope="module")
def outputs():
    return oracle.draw_sequences(14, 0)


def assert_exact(known, seed, n_nodes=48):
    """Moments within 1 % of the standard deviations, evidence within 0.05 nats."""
    size, found = oracle.our_posterior(oracle.known_family(), known, seed)
    mean, cov, evidence = oracle.errors(found, oracle.quadrature(known, n_nodes))
    assert mean.max() < 0.01
    assert cov.max() < 0.01
    assert evidence[0] < 0.05
    assert size > 200


@pytest.mark.parametrize("n_known", [0, 5, 20, 80])
def test_moments_and_evidence_are_those_of_quadrature(outputs, n_known):
    assert_exact(outputs[0, :n_known], seed=0)


@pytest.mark.parametrize(("i", "n_known"), [(2, 20), (13, 20), (13, 10)])
def test_modes_at_the_edge_of_the_prior_are_found(outputs, i, n_known):
    """A second mode of 6 to 25 % where a half-life is shorter than all but 1 % of the family's."""
    for seed in range(3):
        assert_exact(outputs[i, :n_known], seed)


def test_quadrature_is_the_likelihood_where_little_is_left_to_integrate():
    """Without an observation the evidence is one and the moments are those of the family."""
    mean, cov, evidence = oracle.quadrature(np.empty(0), 40)
    expected_mean, expected_std = oracle.standard_units()
    np.testing.assert_allclose(mean, expected_mean, rtol=1e-6)
    np.testing.assert_allclose(np.sqrt(np.diag(cov)), expected_std, rtol=1e-5)
    assert abs(evidence) < 1e-9


def test_quadrature_agrees_with_draws_of_the_family(outputs):
    """Plain Monte Carlo: the likelihood of one output, averaged over the family."""
    rng = np.random.default_rng(0)
    places = rng.random((2, 2, 200_000))
    y = outputs[3, :3]
    signal = sum(oracle.signals(*oracle.coordinates(*places[j], j), j, 3) for j in (0, 1))
    std = oracle.NOISE_STD
    density = np.exp(-np.sum((y - signal) ** 2, axis=1) / (2 * std**2))
    expected = np.log(density.mean()) - 3 * np.log(std * np.sqrt(2 * np.pi))
    assert oracle.quadrature(y, 40)[2] == pytest.approx(expected, abs=0.02)
