"""From the parameter `y_transform` and training outputs to a `Transform`."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from scipy.optimize import minimize_scalar
from scipy.stats import boxcox_llf, yeojohnson_llf

from mtds_sklearn._transforms import (
    Asinh,
    BoxCox,
    Log,
    Log1p,
    Pair,
    Transform,
    YeoJohnson,
    check_domain,
)

NAMES = ("log", "log1p", "box-cox", "yeo-johnson")
# Powers whose inverse is finite everywhere: with others a normal f(y) would leave y infinite.
POWERS = (0.0, 2.0)
# How far inverse(f(y)) may be from y, relative to |y|, and relative to the range of y.
ROUND_TRIP = (1e-6, 1e-9)
# How far the logarithm of a given derivative may be from that of the slope, in the median.
SLOPE_ERROR = 0.01
# Points within the limits at which the inverse of a pair is tried.
N_TRIALS = 257


def fit_transform(spec: Any, y: np.ndarray, *, who: str) -> Transform | None:
    """The transform that `spec` asks for, for training outputs.

    Parameters
    ----------
    spec : None, one of `NAMES`, or tuple of two or three callables
        As `y_transform` of the estimators.
    y : ndarray of shape (n_rows, n_outputs)
        NaN where not observed.
    who : str
        Who complains.

    Returns
    -------
    transform : Transform or None

    Raises
    ------
    ValueError
        If a value is outside the domain, or callables are not what they have to be.
    """
    if spec is None:
        return None
    blank = np.zeros((2, y.shape[1]))
    if isinstance(spec, str):
        transform = _named(spec, y, blank, who)
        return replace(transform, limits=_limits(transform.forward(y)))
    functions = tuple(spec)
    if len(functions) not in (2, 3) or not all(callable(f) for f in functions):
        raise ValueError(
            f"{who}: y_transform must be None, one of {NAMES}, or two or three callables "
            f"(f, inverse[, derivative]), got {spec!r}"
        )
    transform = Pair(blank, functions)
    check_domain(transform, y, name="y", who=who)
    transform = replace(transform, limits=_limits(transform.forward(y)))
    for column, limits in zip(y.T, transform.limits.T, strict=True):
        _check_pair(
            replace(transform, limits=limits[:, None]), np.sort(column[~np.isnan(column)]), who
        )
    return transform


def fit_asinh(y: np.ndarray, unit: np.ndarray) -> Asinh:
    """Arcsinh of training outputs (n_rows, n_outputs), NaN where not observed, in given units.

    Limits are closer than those of a transform that was asked for: where a family is left, means
    of a logarithm grow exponentially.
    """
    transform = Asinh(np.zeros((2, len(unit))), unit)
    return replace(transform, limits=_limits(transform.forward(y), n_widths=0.0))


def _named(name: str, y: np.ndarray, limits: np.ndarray, who: str) -> Transform:
    if name in ("log", "log1p"):
        transform = Log(limits) if name == "log" else Log1p(limits)
        check_domain(transform, y, name="y", who=who)
        return transform
    columns = [np.sort(column[~np.isnan(column)]) for column in y.T]
    kind, measure, llf = {
        "box-cox": (BoxCox, _geometric_mean, boxcox_llf),
        "yeo-johnson": (YeoJohnson, root_mean_square, yeojohnson_llf),
    }[name]
    ones = np.ones(len(columns))
    check_domain(kind(limits, ones, ones), y, name="y", who=who)
    unit = np.array([measure(column) for column in columns])
    power = [_best_power(column / u, llf) for column, u in zip(columns, unit, strict=True)]
    return kind(limits, np.array(power), unit)


def _geometric_mean(values: np.ndarray) -> float:
    return float(np.exp(np.mean(np.log(values)))) if len(values) else 1.0


def root_mean_square(values: np.ndarray) -> float:
    """Root mean square of values (n_values,); 1 if there is none but zero."""
    peak = np.abs(values).max(initial=0.0)  # taken out, so that no square over- or underflows
    return float(peak * np.sqrt(np.mean((values / peak) ** 2))) if peak > 0.0 else 1.0


def _best_power(values: np.ndarray, llf: Callable) -> float:
    """The most likely power within `POWERS`; 1, which changes nothing, for a constant column."""
    if len(values) == 0 or values[0] == values[-1]:
        return 1.0
    with np.errstate(all="ignore"):
        inside = minimize_scalar(lambda power: -llf(power, values), bounds=POWERS).x
        return float(max((*POWERS, inside), key=lambda power: llf(power, values)))


def _limits(x: np.ndarray, n_widths: float = 1.0) -> np.ndarray:
    """The range of each column, widened by its width and its standard deviation; (2, n_outputs).

    By `n_widths` of its width; a constant column by its absolute value, or by one.
    """
    limits = np.zeros((2, x.shape[1]))
    for j, column in enumerate(x.T):
        known = column[~np.isnan(column)]
        low, high = (known.min(), known.max()) if len(known) else (0.0, 0.0)
        width = n_widths * (high - low)
        margin = width + (known.std() if high > low else abs(low) or 1.0)
        limits[:, j] = low - margin, high + margin
    return limits


def _check_pair(transform: Pair, y: np.ndarray, who: str) -> None:
    """Refuse callables that are not increasing, elementwise and inverse to each other.

    `y` are the values of one output, sorted; `transform` is that of this output.
    """
    if len(y) == 0:
        return
    columns = y[:, None]
    x, half = transform.forward(columns)[:, 0], transform.forward(columns[::2])[:, 0]
    differs = np.abs(x[::2] - half) > 1e-9 * (np.abs(half) + np.ptp(x))
    if differs.any():
        i = int(np.argmax(differs))
        raise ValueError(
            f"{who}: f of y_transform must work elementwise, but f({y[2 * i]:.6g}) is "
            f"{x[2 * i]:.6g} among {len(y)} values and {half[i]:.6g} among half of them"
        )
    rises = (np.diff(x) > 0.0) | (np.diff(y) <= 1e-12 * np.abs(y[1:]))
    if not rises.all():
        i = int(np.argmin(rises))
        raise ValueError(
            f"{who}: f of y_transform must increase, but f({y[i]:.6g}) = {x[i]:.6g} and "
            f"f({y[i + 1]:.6g}) = {x[i + 1]:.6g}"
        )
    back = transform.inverse(x[:, None])[:, 0]
    error = np.abs(back - y) / (ROUND_TRIP[0] * np.abs(y) + ROUND_TRIP[1] * (y[-1] - y[0]) + 1e-300)
    if not np.all(error <= 1.0):
        i = int(np.argmax(np.where(np.isnan(error), np.inf, error)))
        raise ValueError(
            f"{who}: the inverse of y_transform must undo f, but inverse(f({y[i]:.6g})) = "
            f"inverse({x[i]:.6g}) = {back[i]:.6g}"
        )
    _check_inverse(transform, np.linspace(*transform.limits[:, 0], N_TRIALS), who)
    _check_derivative(transform, columns, who)


def _check_inverse(transform: Pair, x: np.ndarray, who: str) -> None:
    """Refuse an inverse that falls, or is not finite, where forecasts may go."""
    with np.errstate(all="ignore"):
        y = transform.inverse(x[:, None])[:, 0]
    bad = ~np.isfinite(y)
    bad[1:] |= ~(np.diff(y) >= 0.0)
    if bad.any():
        i = max(int(np.argmax(bad)), 1)
        raise ValueError(
            f"{who}: the inverse of y_transform must be finite and not fall from {x[0]:.6g} to "
            f"{x[-1]:.6g}, where forecasts may go (the range of f(y) in training, widened), but "
            f"inverse({x[i - 1]:.6g}) = {y[i - 1]:.6g} and inverse({x[i]:.6g}) = {y[i]:.6g}"
        )


def _check_derivative(transform: Pair, y: np.ndarray, who: str) -> None:
    """Refuse a derivative that is not the slope of f at most of the values."""
    plain = replace(transform, functions=transform.functions[:2])
    given, found = transform.log_slope(y), plain.log_slope(y)
    if not np.median(np.abs(given - found)) <= SLOPE_ERROR:
        i = len(y) // 2
        raise ValueError(
            f"{who}: the third callable of y_transform must be the derivative of f, positive, but "
            f"at {y[i, 0]:.6g} its logarithm is {given[i, 0]:.6g} and the slope's {found[i, 0]:.6g}"
        )
