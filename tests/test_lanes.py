"""Lanes against NumPy: every operation, lane by lane."""

import numpy as np
import pytest
from numba import njit

from mtds_sklearn.kernels import _lanes
from mtds_sklearn.kernels._lanes import (
    LANES,
    any_positive,
    choose,
    fill,
    load,
    load_number,
    spread,
    square_root,
    store,
)


@njit
def _operate(W):
    a, b = load(W, 0), load(W, 1)
    store(W, 2, a + b)
    store(W, 3, a - b)
    store(W, 4, a * b)
    store(W, 5, a / b)
    store(W, 6, 2.0 * a - b / 3)
    store(W, 7, 1 - a)
    store(W, 8, square_root(b))
    store(W, 9, choose(a, b, fill(-1.0)))
    store(W, 10, 7.0)
    store(W, 11, load_number(W, 3))


def test_operations_are_those_of_numpy(rng):
    W = rng.standard_normal((12, LANES))
    W[1] = np.abs(W[1]) + 0.5
    a, b = W[:2].copy()
    _operate(W.reshape(-1))
    expected = [a + b, a - b, a * b, a / b, 2.0 * a - b / 3.0, 1.0 - a, np.sqrt(b)]
    expected += [np.where(a > 0.0, b, -1.0), np.full(LANES, 7.0), np.full(LANES, a[3])]
    np.testing.assert_allclose(W[2:], expected, rtol=1e-15, atol=1e-15)
    assert 0 < np.sum(a > 0.0) < LANES


@njit
def _spread(W, numbers, count):
    spread(W, 1, numbers, 2, count)


@pytest.mark.parametrize("count", [0, 1, 5])
def test_numbers_are_spread_over_lanes(rng, count):
    W, numbers = rng.standard_normal((7, LANES)), rng.standard_normal(8)
    expected = W.copy()
    expected[1 : 1 + count] = numbers[2 : 2 + count, None]
    _spread(W.reshape(-1), numbers, count)
    np.testing.assert_array_equal(W, expected)


@njit
def _any(W):
    return any_positive(load(W, 0))


@pytest.mark.parametrize("lane", range(LANES))
def test_one_positive_lane_is_enough(lane):
    W = np.array([0.0, -1.0, np.nan, 0.0, -np.inf, -0.0, 0.0, -5.0])
    assert not _any(W)
    W[lane] = 1e-300
    assert _any(W)


@njit
def _functions(W, n):
    for i in range(n):
        x = load(W, i)
        store(W, i, _lanes.exp(x))
        store(W, n + i, _lanes.tanh(x))


def test_exp_and_tanh_are_those_of_numpy():
    x = np.concatenate(
        [np.linspace(-50.0, 50.0, 992), [0.0, -0.0, 1e-9, -1e-9, 300, -300, 699, -699]]
    )
    W = np.concatenate([x, np.zeros_like(x)])
    _functions(W, len(x) // LANES)
    exp, tanh = W.reshape(2, -1)
    np.testing.assert_allclose(exp, np.exp(x), rtol=5e-16)
    np.testing.assert_allclose(tanh, np.tanh(x), atol=5e-16)


def test_what_has_no_value_keeps_none_and_what_is_too_large_stays_finite():
    W = np.concatenate([[np.nan, np.inf, -np.inf, 1e9, -1e9, 0.0, 1.0, -1.0], np.zeros(LANES)])
    _functions(W, 1)
    exp, tanh = W.reshape(2, -1)
    assert np.isnan(exp[0])
    assert np.isnan(tanh[0])
    assert np.isfinite(exp[1:]).all()
    np.testing.assert_array_equal(tanh[1:6], [1.0, -1.0, 1.0, -1.0, 0.0])


def test_lanes_do_not_depend_on_each_other(rng):
    x = rng.standard_normal(LANES)
    alone = []
    for value in x:
        W = np.concatenate([np.full(LANES, value), np.zeros(LANES)])
        _functions(W, 1)
        alone.append(W[LANES])
    W = np.concatenate([x, np.zeros(LANES)])
    _functions(W, 1)
    np.testing.assert_array_equal(W[LANES:], alone)


def test_lanes_of_other_arrays_are_refused():
    square = np.zeros((LANES, LANES))
    with pytest.raises(TypeError, match="contiguous one-dimensional arrays"):
        _any(square)
