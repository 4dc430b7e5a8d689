"""The random numbers of inference: quasi-random, drawn once, the same for all sequences."""

from functools import lru_cache
from typing import NamedTuple

import numpy as np
from scipy.special import chdtri, ndtri
from scipy.stats.qmc import Sobol

from mtds_sklearn._sequences import frozen
from mtds_sklearn.inference._mixture import DEGREES_OF_FREEDOM

N_DRAWS = 2048
MAX_ROUNDS = 8


class Draws(NamedTuple):
    """Scrambled Sobol points (Owen 1998), a set of its own for every round.

    Attributes
    ----------
    points : ndarray of shape (n_draws, k)
        Quasi-random draws of N(0, I).
    component : ndarray of shape (n_draws,)
        Evenly spaced; which component of a proposal. Every component gets its share of the draws,
        and consecutive ones, which are evenly spread themselves.
    normal : ndarray of shape (1 + n_rounds, k, n_draws)
        Standard normal.
    scale : ndarray of shape (1 + n_rounds, n_draws)
        What makes normal numbers Student t.
    """

    points: np.ndarray
    component: np.ndarray
    normal: np.ndarray
    scale: np.ndarray


@lru_cache(maxsize=8)
def make_draws(latent_dim: int, seed: int, n_draws: int = N_DRAWS) -> Draws:
    """Quasi-random numbers that depend on the arguments alone; read-only."""
    seeds = np.random.RandomState(seed).randint(2**31 - 1, size=2 + MAX_ROUNDS)
    points = ndtri(_uniform(latent_dim, seeds[0], n_draws))
    rounds = [make_numbers(latent_dim, s, n_draws) for s in seeds[1:].tolist()]
    component, normal, scale = zip(*rounds, strict=True)
    return Draws(*map(frozen, (points, component[0], np.stack(normal), np.stack(scale))))


@lru_cache(maxsize=64)
def make_numbers(latent_dim: int, seed: int, n_draws: int) -> tuple:
    """What one round of draws takes: component, normal and scale as in `Draws`; read-only."""
    uniform = _uniform(latent_dim + 1, seed, n_draws).T
    scale = np.sqrt(DEGREES_OF_FREEDOM / chdtri(DEGREES_OF_FREEDOM, uniform[0]))
    component = (np.arange(n_draws) + 0.5) / n_draws
    return frozen(component), frozen(ndtri(uniform[1:])), frozen(scale)


def first_draws(draws: Draws, n_draws: int, n_rounds: int) -> Draws:
    """The first of the draws and rounds: rougher, and evenly spread if n_draws is a power of 2."""
    some = slice(min(n_draws, len(draws.points)))
    component = (np.arange(some.stop) + 0.5) / some.stop
    rounds = slice(1 + n_rounds)
    parts = (
        draws.points[some],
        component,
        draws.normal[rounds, :, some],
        draws.scale[rounds, some],
    )
    return Draws(*(frozen(np.ascontiguousarray(part)) for part in parts))


def _uniform(dim: int, seed: int, n_draws: int) -> np.ndarray:
    """Points (n_draws, dim) strictly inside the unit cube."""
    points = Sobol(dim, rng=np.random.default_rng(seed)).random(n_draws)
    return np.clip(points, 1e-9, 1.0 - 1e-9)
