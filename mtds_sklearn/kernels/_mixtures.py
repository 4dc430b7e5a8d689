"""Loops over weighted particles, compiled by numba: what forecasts are read off from.

The outputs of a row over the particles of its sequence are a mixture of normals. Rows of all
sequences stand below each other: weights[owner[row]] are those of the particles of a row, so that
sequences need no loop of their own, and what they share is not repeated. Variances, and standard
deviations, are (n_rows, p, n_particles), or (n_rows, p, 1) where all particles of a row have one.
"""

import math

import numpy as np
from numba import njit

from mtds_sklearn.kernels import _lanes
from mtds_sklearn.kernels._kinds import Count, Counts1, Number, Numbers2, Numbers3, several

# Sums over particles may be taken in any order, and in vectors then.
FAST = {"error_model": "numpy", "fastmath": {"contract", "reassoc"}}
JIT, LEAF = _lanes.JIT | FAST, _lanes.LEAF | FAST


@njit(**JIT)
def mixture_moments(
    yhat: Numbers3,
    variance: Numbers3,
    weights: Numbers2,
    owner: Counts1,
    mean: Numbers2,
    spread: Numbers2,
):
    """mean[row, o], spread[row, o] <- mean and variance of the mixture of each row and output.

    yhat (n_rows, p, n_particles), weights (n_mixtures, n_particles), each row summing to 1, owner
    (n_rows,).
    """
    for row in range(yhat.shape[0]):
        w = weights[owner[row]]
        for o in range(yhat.shape[1]):
            here, own = yhat[row, o], variance[row, o]
            centre, around, within = 0.0, 0.0, 0.0
            for s in range(w.shape[0]):
                centre += w[s] * here[s]
            for s in range(w.shape[0]):
                around += w[s] * (here[s] - centre) * (here[s] - centre)
            if own.shape[0] == 1:
                within = own[0]
            else:
                for s in range(w.shape[0]):
                    within += w[s] * own[s]
            mean[row, o], spread[row, o] = centre, around + within


@njit(**LEAF)
def _gather(centres, weights, spacing, first, n_nodes, mass):
    """Share the mass of each particle between the two nodes next to it, `spacing` apart.

    Returns the variance that this adds.
    """
    added = 0.0
    for i in range(n_nodes):
        mass[i] = 0.0
    for r in range(centres.shape[0]):
        place = (centres[r] - first) / spacing
        i = min(int(place), n_nodes - 2)
        upper = (place - i) * weights[r]
        mass[i] += weights[r] - upper
        mass[i + 1] += upper
        added += upper * (1.0 - place + i)
    return added * spacing * spacing


@njit(**LEAF)
def _root(level, low, high, n_nodes, means, stds, mass, tol):
    """x in (low, high) with sum_i mass[i] Phi((x - means[i]) / stds[i]) = level.

    Newton steps kept inside a shrinking bracket.
    """
    x = 0.5 * (low + high)
    for _ in range(100):
        excess, slope = -level, 0.0
        for i in range(n_nodes):
            if mass[i] > 0.0:
                q = (x - means[i]) / stds[i]
                excess += mass[i] * 0.5 * math.erfc(-q * 0.7071067811865476)
                slope += mass[i] * math.exp(-0.5 * q * q) / stds[i]
        if excess > 0.0:
            high = x
        else:
            low = x
        new = x - excess / (0.3989422804014327 * slope) if slope > 0.0 else low
        if not low < new < high:
            new = 0.5 * (low + high)
        step, x = abs(new - x), new
        if step < tol:
            break
    return x


@njit(**LEAF)
def _range(values):
    """Least and largest of some values."""
    low, high = values[0], values[0]
    for r in range(1, values.shape[0]):
        low, high = min(low, values[r]), max(high, values[r])
    return low, high


@njit(**LEAF)
def _set_nodes(here, std, weights, max_nodes, grid, spread, mass):
    """Fill nodes of the mixture of one row and output; returns their number."""
    low, high = _range(here)
    least, most = _range(std)
    if most > 1.001 * least:
        for r in range(here.shape[0]):
            grid[r], spread[r], mass[r] = here[r], std[r], weights[r]
        return here.shape[0]
    n_nodes = int(min(4.0 * (high - low) / least, max_nodes - 2.0)) + 2
    spacing = max((high - low) / (n_nodes - 1), 1e-9 * least)
    added = _gather(here, weights, spacing, low, n_nodes, mass)
    width = math.sqrt(max(least * least - added, 0.25 * least * least))
    for i in range(n_nodes):
        grid[i], spread[i] = low + i * spacing, width
    return n_nodes


@njit(**LEAF)
def _light_at_top(values, weights, least, out):
    """out <- values, those of a weight below `least` moved to where the heaviest one is."""
    top = 0
    for s in range(1, weights.shape[0]):
        if weights[s] > weights[top]:
            top = s
    for s in range(weights.shape[0]):
        out[s] = values[s] if weights[s] > least else values[top]


@njit(**JIT)
def mixture_quantiles(
    yhat: Numbers3,
    std: Numbers3,
    weights: Numbers2,
    owner: Counts1,
    levels: Numbers2,
    settings: several(Count, Number),
    out: Numbers3,
):
    """out[row, o, h] <- quantile levels[0, h] of the mixture of normals of each row and output.

    Arguments as above; levels[1, h] is the standard normal quantile. settings = (max_nodes,
    least_weight): particles of equal standard deviations are first gathered on a grid of nodes, a
    quarter of one apart, or of `max_nodes`, and those of a smaller weight may be anywhere.
    """
    max_nodes, least_weight = settings
    size = max(max_nodes, yhat.shape[2])
    grid, spread, mass = np.empty(size), np.empty(size), np.empty(size)
    here = np.empty(yhat.shape[2])
    for row in range(yhat.shape[0]):
        w = weights[owner[row]]
        for o in range(yhat.shape[1]):
            own = std[row, o]
            _light_at_top(yhat[row, o], w, least_weight, here)
            n_nodes = _set_nodes(here, own, w, max_nodes, grid, spread, mass)
            low, high = _range(here)
            least, most = _range(own)
            high = max(high, grid[n_nodes - 1])
            for h in range(levels.shape[1]):
                left = low + min(least * levels[1, h], most * levels[1, h])
                right = high + max(least * levels[1, h], most * levels[1, h])
                out[row, o, h] = _root(
                    levels[0, h], left, right, n_nodes, grid, spread, mass, 1e-7 * least
                )
