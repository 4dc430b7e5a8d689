"""Mixtures of Student t components, one mixture per sequence, compiled by numba.

Points v of one sequence stand side by side, (n_sequences, k, n_points), and eight of them are
worked on together, one in each lane (`_lanes`). A component has a mean (k,) and a scale matrix
L L'; `means` are (n_sequences, J, k) and `factors` (n_sequences, J, k, k) with the lower triangular
L. Its density is

    constant / |L| (1 + d^2 / degrees)^(-(degrees + k) / 2),     d = |L^-1 (v - mean)|,

where `degrees` is an integer, so that the power takes multiplications and at most a square root.
"""

import math

import numpy as np
from numba import njit

from mtds_sklearn.kernels._kinds import (
    Count,
    Counts2,
    Number,
    Numbers1,
    Numbers2,
    Numbers3,
    Numbers4,
    several,
)
from mtds_sklearn.kernels._lanes import (
    INLINE,
    JIT,
    LANES,
    LEAF,
    add,
    choose,
    exp,
    fill,
    load,
    load_number,
    square_root,
    store,
)
from mtds_sklearn.kernels._particles import load_side_by_side
from mtds_sklearn.kernels._recursion import room


@njit(**JIT)
def draw_components(
    ends: Counts2,
    means: Numbers3,
    factors: Numbers4,
    student: Numbers2,
    v: Numbers3,
):
    """v[e, :, s] <- mean + L student[:, s] for the points s of component j of sequence e.

    Those are ends[e, j] to ends[e, j + 1] - 1; others stay as they are.
    """
    k = means.shape[2]
    for e in range(means.shape[0]):
        for j in range(means.shape[1]):
            first, last = ends[e, j], ends[e, j + 1]
            for a in range(k):
                for s in range(first, last):
                    v[e, a, s] = means[e, j, a]
                for b in range(a + 1):
                    slope = factors[e, j, a, b]
                    for s in range(first, last):
                        v[e, a, s] += slope * student[b, s]


@njit(**LEAF)
def _whiten(factors, means, e, whitenings):
    """What makes d of the points of sequence e, one component after the other.

    Rows of L^-1 (a lower triangle), each followed by minus its entry of L^-1 mean; then 1 / |L|.
    """
    k, place = means.shape[2], 0
    for j in range(means.shape[1]):
        first, volume = place, 1.0
        for a in range(k):
            own = 1.0 / factors[e, j, a, a]
            volume *= own
            # L[a, a] L^-1[a, b] = [a = b] - sum_h L[a, h] L^-1[h, b].
            shift = 0.0
            for b in range(a + 1):
                entry = 1.0 if a == b else 0.0
                for h in range(b, a):
                    entry -= factors[e, j, a, h] * whitenings[first + h * (h + 3) // 2 + b]
                whitenings[place + b] = own * entry
                shift -= own * entry * means[e, j, b]
            whitenings[place + a + 1] = shift
            place += a + 2
        whitenings[place] = volume
        place += 1


@njit(**INLINE)
def _student(W, points, whitenings, j, k, degrees):
    """Density, but for its constant, of component j at the points at W[points ..]."""
    size = k * (k + 3) // 2 + 1
    squared, place = fill(0.0), j * size
    for a in range(k):
        white = load_number(whitenings, place + a + 1)
        for b in range(a + 1):
            white = white + load_number(whitenings, place + b) * load(W, points + b)
        squared = squared + white * white
        place += a + 2
    base = 1.0 / (squared * (1.0 / degrees) + 1.0)
    power = square_root(base) if (degrees + k) % 2 == 1 else fill(1.0)
    exponent = (degrees + k) // 2
    while exponent > 0:
        if exponent % 2 == 1:
            power = power * base
        base = base * base
        exponent //= 2
    return power * whitenings[place]


@njit(**JIT)
def mixture_densities(
    v: Numbers3,
    weights: Numbers2,
    means: Numbers3,
    factors: Numbers4,
    prior: Numbers2,
    student: several(Count, Number),
    out: Numbers2,
):
    """out (n_sequences, n_points) <- density of each sequence's mixture at its points.

    The first of the weights (n_sequences, 1 + J) is that of `prior`, densities (n_sequences,
    n_points); student = (degrees, constant).
    """
    k, n_points = v.shape[1], v.shape[2]
    degrees, constant = student
    W, flat = room(k + 1), v.reshape(v.size)
    whitenings = np.empty(means.shape[1] * (k * (k + 3) // 2 + 1))
    for e in range(v.shape[0]):
        _whiten(factors, means, e, whitenings)
        for h in range(0, n_points, LANES):
            load_side_by_side(W, 0, flat, (k, v.shape[2], e, h), 0, k)
            total = fill(0.0)
            for j in range(means.shape[1]):
                scale = constant * weights[e, j + 1]
                total = total + scale * _student(W, 0, whitenings, j, k, degrees)
            store(W, k, total)
            for lane in range(min(LANES, n_points - h)):
                out[e, h + lane] = weights[e, 0] * prior[e, h + lane] + W[LANES * k + lane]


@njit(**LEAF)
def _monomials(W, points, k, to):
    """W[to ..] <- 1, v and the upper triangle of v v' of the points."""
    store(W, to, 1.0)
    place = to + 1 + k
    for a in range(k):
        x = load(W, points + a)
        store(W, to + 1 + a, x)
        for b in range(a, k):
            store(W, place, x * load(W, points + b))
            place += 1


@njit(**LEAF)
def _add_shares(W, parts, n_components, share, monomials, size, sums):
    """Add to the sums of every component its share of the monomials."""
    for j in range(n_components):
        belongs = share * load(W, parts + j)
        for q in range(size):
            add(W, sums + j * size + q, belongs * load(W, monomials + q))


@njit(**JIT)
def component_sums(
    v: Numbers3,
    weights: Numbers2,
    shares: Numbers2,
    means: Numbers3,
    factors: Numbers4,
    degrees: Count,
    out: Numbers3,
):
    """out[e, j] <- sums of the monomials of the points, by how far they belong to component j.

    The points have weights (n_sequences, n_points), the components shares (n_sequences, J). out is
    (n_sequences, J, 1 + k + k (k + 1) / 2), in the order of `_monomials`.
    """
    k, n_components, size = v.shape[1], means.shape[1], out.shape[2]
    weight, monomials, parts = k, k + 1, k + 1 + size
    sums = parts + n_components
    W, flat = room(sums + n_components * size), v.reshape(v.size)
    whitenings = np.empty(n_components * (k * (k + 3) // 2 + 1))
    for e in range(v.shape[0]):
        _whiten(factors, means, e, whitenings)
        for i in range(sums, sums + n_components * size):
            store(W, i, 0.0)
        for h in range(0, v.shape[2], LANES):
            load_side_by_side(W, 0, flat, (k, v.shape[2], e, h), 0, k)
            _monomials(W, 0, k, monomials)
            for lane in range(LANES):  # the last point may stand in several lanes
                here = h + lane < v.shape[2]
                W[LANES * weight + lane] = weights[e, h + lane] if here else 0.0
            total = fill(0.0)
            for j in range(n_components):
                part = shares[e, j] * _student(W, 0, whitenings, j, k, degrees)
                store(W, parts + j, part)
                total = total + part
            share = load(W, weight) / choose(total - 1e-300, total, fill(1e-300))
            _add_shares(W, parts, n_components, share, monomials, size, sums)
        for j in range(n_components):
            for q in range(size):
                out[e, j, q] = 0.0
                for lane in range(LANES):
                    out[e, j, q] += W[LANES * (sums + j * size + q) + lane]


@njit(**LEAF)
def _effective(W, n_groups, power):
    """Effective sample size of the weights exp(power W[i]), i < n_groups."""
    first, second = fill(0.0), fill(0.0)
    for i in range(n_groups):
        weight = exp(power * load(W, i))
        first = first + weight
        second = second + weight * weight
    store(W, n_groups, first)
    store(W, n_groups + 1, second)
    total, squares = 0.0, 0.0
    for lane in range(LANES * n_groups, LANES * n_groups + LANES):
        total += W[lane]
        squares += W[lane + LANES]
    return total * total / squares


@njit(**JIT)
def tempering_powers(
    log_weights: Numbers2,
    least: Number,
    lowest: Number,
    n_steps: Count,
    powers: Numbers1,
):
    """powers[e] <- the largest power <= 1 of the weights that leaves `least` of them effective.

    By bisection of its logarithm, from `lowest` to 0, unless 1 will do. log_weights (n_sequences,
    n_points), the largest of each sequence 0.
    """
    n_points = log_weights.shape[1]
    n_groups = (n_points + LANES - 1) // LANES
    W = room(n_groups + 2)
    for e in range(log_weights.shape[0]):
        for s in range(LANES * n_groups):
            W[s] = log_weights[e, s] if s < n_points else -1e300
        powers[e] = 1.0
        if _effective(W, n_groups, 1.0) >= least:
            continue
        low, high = lowest, 0.0
        for _ in range(n_steps):
            middle = 0.5 * (low + high)
            if _effective(W, n_groups, math.exp(middle)) >= least:
                low = middle
            else:
                high = middle
        powers[e] = math.exp(low)
