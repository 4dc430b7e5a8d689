"""Posteriors in a family that is known, against quadrature that shares no code with inference."""

import sys
from pathlib import Path

import numpy as np
import pytest
from scipy.special import logsumexp, ndtri
from scipy.stats import norm, qmc

from mtds_sklearn._sequences import pack_sequences
from mtds_sklearn.inference._adaptive_is import infer
from mtds_sklearn.inference._draws import make_draws

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


def log_evidence_by_draws(y, family, n=2**20):
    """Weighted draws of N(0, 2 I), and the recursion of the benchmark; no code of inference."""
    places = qmc.Sobol(4, rng=np.random.default_rng(0)).random(n)
    z = np.sqrt(2.0) * ndtri(np.clip(places.T, 1e-12, 1.0 - 1e-12))
    theta = family.bias[:4, None] + np.diag(family.loadings[:4])[:, None] * z
    signal = sum(oracle.signals(*theta[2 * j : 2 * j + 2], j, len(y)) for j in (0, 1))
    log_density = norm.logpdf(y, signal, oracle.NOISE_STD).sum(axis=1)
    log_ratio = 2.0 * np.log(2.0) - 0.25 * np.sum(z**2, axis=0)  # N(0, I) over N(0, 2 I)
    return logsumexp(log_density + log_ratio) - np.log(n)


def test_modes_far_out_in_a_normal_prior_are_found():
    """A second mode of 15 % that hardly any draw of the prior is near."""
    family = oracle.known_family()._replace(prior=None)
    z = np.array([-2.7, 0.34, 0.33, 1.39])
    theta = family.bias[:4] + z * np.diag(family.loadings[:4])
    signal = sum(oracle.signals(theta[2 * j], theta[2 * j + 1], j, 10) for j in (0, 1))
    y = signal + oracle.NOISE_STD * np.array(
        [0.46, 0.61, -0.93, -0.56, -0.13, -0.31, -0.28, 0.81, 1.17, -1.9]
    )
    sequence = pack_sequences(np.zeros((10, 0)), y)
    expected = log_evidence_by_draws(y, family)
    for seed in range(3):
        found = infer(sequence, family, make_draws(4, seed)).log_evidence[0]
        assert found == pytest.approx(expected, abs=0.03)
