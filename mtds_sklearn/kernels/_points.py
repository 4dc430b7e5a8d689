"""Many points of each posterior, compiled by numba: what the data say of them.

Points v of one sequence stand side by side, (n_sequences, k, n_points), and eight of them are
worked on together, one in each lane; W, `at`, rows in lanes, natural vectors, `shape`, `data` and
`gain` are those of `_recursion`. A point becomes a natural vector by `way` = (tables, bent,
farthest, loadings, bias):

    psi = loadings r + bias,      r_i = v_i, or if bent[i] the value at v_i of tables[i],

which holds values at equally spaced nodes from -farthest to farthest, and is linear between them.
"""

import math

from numba import njit

from mtds_sklearn.kernels._forward import sum_squares
from mtds_sklearn.kernels._kinds import (
    Counts1,
    Data,
    Flag,
    Numbers1,
    Numbers2,
    Numbers3,
    Shape,
    Tables,
    Way,
    several,
)
from mtds_sklearn.kernels._lanes import (
    INLINE,
    JIT,
    LANES,
    LEAF,
    add,
    choose,
    fill,
    load,
    load_number,
    store,
)
from mtds_sklearn.kernels._particles import hand_out, load_side_by_side
from mtds_sklearn.kernels._recursion import (
    advance,
    begin,
    correct,
    drive,
    layout,
    load_rows,
    longest_of,
    room,
    weighted_residual,
)

# Of weights that shrink as the noise grows, so many are multiplied before a logarithm is taken of
# them, and none counts for less: outputs that have run away would leave zero.
FACTORS, LEAST_WEIGHT = 4, 1e-60


@njit(**INLINE)
def _look_up(tables, i, farthest, x):
    """Value of table i at x, and of its ends beyond them."""
    last = tables.shape[1] - 1
    x = min(x, farthest) if x > -farthest else -farthest
    place = (x + farthest) * (last / (2.0 * farthest))
    node = min(int(place), last - 1)
    share = place - node
    return (1.0 - share) * tables[i, node] + share * tables[i, node + 1]


@njit(**LEAF)
def _natural_vectors(W, at, to, way):
    """psi <- of the points at W[to ..], which become r."""
    tables, bent, farthest, loadings, bias = way
    for i in range(loadings.shape[1]):
        if bent[i]:
            for lane in range(LANES * (to + i), LANES * (to + i + 1)):
                W[lane] = _look_up(tables, i, farthest, W[lane])
    for row in range(bias.shape[0]):
        acc = load_number(bias, row)
        for i in range(loadings.shape[1]):
            slope = loadings[row, i]
            if slope != 0.0:
                acc = acc + slope * load(W, to + i)
        store(W, at.psi + row, acc)


@njit(**JIT)
def bend(
    v: Numbers3,
    tables: Tables,
    r: Numbers3,
):
    """r (n_sequences, k, n_points) <- of the points v; tables are the first three of `way`."""
    tables, bent, farthest = tables
    for e in range(v.shape[0]):
        for i in range(v.shape[1]):
            for s in range(v.shape[2]):
                x = v[e, i, s]
                r[e, i, s] = _look_up(tables, i, farthest, x) if bent[i] else x


@njit(**JIT)
def point_squares(
    v: Numbers3,
    way: Way,
    rows: several(Counts1, Counts1),
    data: Data,
    precision: Numbers1,
    shape: Shape,
    gain: Flag,
    total: Numbers2,
    level: Numbers2,
):
    """What the density of the data takes from every point.

    rows = (first_row, n_rows), (n_sequences,) each; precision (p,) of the noise of the outputs.
    total (n_sequences, n_points) <- sum over rows and outputs of precision weight (y - yhat)^2;
    level (n_sequences, n_points) <- the last natural entry.
    """
    first_row, n_rows = rows
    at = layout(shape, longest_of(n_rows), False)
    points = at.end + shape[2]
    W = room(points + v.shape[1])
    k, n_points, flat = v.shape[1], v.shape[2], v.reshape(v.size)
    totals, levels = total.reshape(total.size), level.reshape(level.size)
    for e in range(v.shape[0]):
        load_rows(W, at, data, first_row[e], n_rows[e], precision, 0, LANES)
        for h in range(0, n_points, LANES):
            load_side_by_side(W, points, flat, (k, n_points, e, h), 0, k)
            _natural_vectors(W, at, points, way)
            begin(W, at, shape)
            sum_squares(W, at, shape, gain, n_rows[e], at.end)
            for o in range(1, shape[2]):
                add(W, at.end, load(W, at.end + o))
            hand_out(W, at.end, totals, n_points, e, h)
            hand_out(W, at.level, levels, n_points, e, h)


@njit(**LEAF)
def _take_logarithms(W, products, logs):
    """logs <- logs + log products, and products <- 1."""
    for lane in range(LANES):
        W[LANES * logs + lane] += math.log(W[LANES * products + lane])
        W[LANES * products + lane] = 1.0


@njit(**LEAF)
def _sum_shrunk_squares(W, at, shape, gain, n_rows, growth, total):
    """W[total] <- weighted squares, the next place <- logarithms of weights; then comes room."""
    zero, unit, size = growth
    p = shape[2]
    logs, products, factors = total + 1, total + 2, 0
    store(W, total, 0.0)
    store(W, logs, 0.0)
    store(W, products, 1.0)
    for t in range(n_rows):
        drive(W, at, shape, t, at.s, at.x)
        for o in range(p):
            residual = weighted_residual(W, at, shape, gain, o, t)
            if W[LANES * (at.root + t * p + o)] == 0.0:
                continue
            far = (load(W, at.yhat + o) - zero[o]) * (1.0 / unit[o])
            weight = size[o] / (far * far + 1.0)
            weight = choose(weight - LEAST_WEIGHT, weight, fill(LEAST_WEIGHT))
            add(W, total, weight * residual * residual)
            store(W, products, load(W, products) * weight)
            factors += 1
            if factors % FACTORS == 0:
                _take_logarithms(W, products, logs)
        correct(W, at, shape, gain, at.x)
        advance(W, at, shape, at.x, at.s)
    _take_logarithms(W, products, logs)


@njit(**JIT)
def shrunk_squares(
    v: Numbers3,
    way: Way,
    rows: several(Counts1, Counts1),
    data: Data,
    precision: Numbers1,
    shape: Shape,
    gain: Flag,
    growth: several(Numbers1, Numbers1, Numbers1),
    total: Numbers2,
    level: Numbers2,
    log_weight: Numbers2,
):
    """As `point_squares` where noise grows with the outputs, of every point with its own.

    Every square is divided by h(yhat) = (1 + ((yhat - zero) / unit)^2) / size, with growth = (zero,
    unit, size), (p,) each. log_weight (n_sequences, n_points) <- half of the sum of log (1 / h)
    over what is observed.
    """
    first_row, n_rows = rows
    at = layout(shape, longest_of(n_rows), False)
    points = at.end + 3
    W = room(points + v.shape[1])
    k, n_points, flat = v.shape[1], v.shape[2], v.reshape(v.size)
    log_weights = log_weight.reshape(log_weight.size)
    totals, levels = total.reshape(total.size), level.reshape(level.size)
    for e in range(v.shape[0]):
        load_rows(W, at, data, first_row[e], n_rows[e], precision, 0, LANES)
        for h in range(0, n_points, LANES):
            load_side_by_side(W, points, flat, (k, n_points, e, h), 0, k)
            _natural_vectors(W, at, points, way)
            begin(W, at, shape)
            _sum_shrunk_squares(W, at, shape, gain, n_rows[e], growth, at.end)
            store(W, at.end + 1, 0.5 * load(W, at.end + 1))
            hand_out(W, at.end, totals, n_points, e, h)
            hand_out(W, at.level, levels, n_points, e, h)
            hand_out(W, at.end + 1, log_weights, n_points, e, h)
