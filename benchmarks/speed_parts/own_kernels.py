"""The package's kernels on a problem of `problem`, one call each."""

import time

import numpy as np
from numba import njit

from mtds_sklearn.inference._modes import climb
from mtds_sklearn.kernels._lanes import LANES, load, rolled, store
from mtds_sklearn.model._gradient import log_likelihood_gradient
from mtds_sklearn.model._likelihood import log_likelihood, theta_quantities
from speed_parts.problem import Problem


def kernels(problem: Problem) -> dict:
    """Functions without arguments: value (E,), gradient in the free entries of psi (E, n_active).

    Matrices J' R^-1 J are in z (E, k, k), with the identity added, and in the free entries of psi
    (E, n_normal) those that `normal_entries` names. The latter come with the gradient.
    """
    p = problem
    family = p.family

    setting = (p.psi, p.run, family.chart, family.noise_std)
    return {
        "value": lambda: log_likelihood(*setting),
        "gradient": lambda: log_likelihood_gradient(*setting)[1],
        "Gauss-Newton, z": lambda: climb(p.z, p.run, family, max_steps=0)[2],
        "Gauss-Newton, theta": lambda: theta_quantities(*setting).normal,
    }


def peak_rate(seconds: float = 0.3) -> float:
    """Multiplications and additions per second of one core, as a matrix product reaches them."""
    a = np.random.default_rng(0).standard_normal((768, 768))
    a @ a
    best, start = np.inf, time.perf_counter()
    while time.perf_counter() - start < seconds:
        before = time.process_time()
        a @ a
        best = min(best, time.process_time() - before)
    return 2.0 * len(a) ** 3 / best


@njit(fastmath={"contract"})
def _multiply_and_add(W, rounds):
    """Ten sums in registers: nothing to load, none waits for another."""
    a, b = load(W, 0), load(W, 1)
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = s8 = s9 = b
    for _ in range(rounds):
        rolled()
        s0, s1, s2, s3, s4 = s0 * a + b, s1 * a + b, s2 * a + b, s3 * a + b, s4 * a + b
        s5, s6, s7, s8, s9 = s5 * a + b, s6 * a + b, s7 * a + b, s8 * a + b, s9 * a + b
    store(W, 2, s0 + s1 + s2 + s3 + s4 + s5 + s6 + s7 + s8 + s9)


def fused_rate(bursts: int = 20) -> float:
    """Multiplications and additions per second of one core at most."""
    W, rounds, least = np.full(3 * LANES, 0.5), 20_000, np.inf
    _multiply_and_add(W, 1)
    for _ in range(bursts):
        before = time.process_time()
        _multiply_and_add(W, rounds)
        least = min(least, time.process_time() - before)
    return 2.0 * 10 * LANES * rounds / least
