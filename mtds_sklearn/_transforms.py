"""Transforms of outputs: what is learned is f(y), what everybody outside sees is y.

f is increasing, one function for each output, so that quantiles map back exactly; log densities
take the log slope of f. Means do not map back: they are moments of the inverse (`limits` below).
"""

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from scipy.special import boxcox, boxcox1p, inv_boxcox, inv_boxcox1p

# Of a central difference, relative to the range: balances its error with that of rounding.
STEP = np.finfo(float).eps ** (1.0 / 3.0)
# Arguments of sinh beyond which quantiles stay where they are, 1e130 units away.
MOST_BENT = 300.0


@dataclass(frozen=True, eq=False)
class Transform:
    """An increasing function f of each output; arrays are (n_rows, n_outputs, ...).

    Attributes
    ----------
    limits : ndarray of shape (2, n_outputs)
        The range of f(y) in training, widened by its own width and its standard deviation on both
        sides. Moments of y are those of a forecast held within: far tails of f(y) are exponential
        in y, and a few wild particles, or Student tails, would leave y without a useful mean.
    """

    limits: np.ndarray

    name: ClassVar[str]
    needs: ClassVar[str] = "finite"

    def forward(self, y: np.ndarray) -> np.ndarray:
        """f(y); NaN stays NaN."""
        raise NotImplementedError

    def inverse(self, x: np.ndarray) -> np.ndarray:
        """Map x = f(y) back to y; beyond the range of f, the edge of the domain."""
        raise NotImplementedError

    def log_slope(self, y: np.ndarray) -> np.ndarray:
        """log f'(y): what a log density of f(y) gains when it is one of y."""
        raise NotImplementedError

    def accepts(self, y: np.ndarray) -> np.ndarray:
        """Whether y is in the domain of f."""
        return np.isfinite(y)

    def inverse_within(self, x: np.ndarray) -> np.ndarray:
        """As `inverse`, of x held within the limits."""
        return self.inverse(self._held(x))

    def _held(self, x: np.ndarray) -> np.ndarray:
        low, high = (along(limit, x) for limit in self.limits)
        return np.clip(x, low, high)


class Log(Transform):
    """log y."""

    name, needs = "'log'", "> 0"

    def forward(self, y):
        return np.log(y)

    def inverse(self, x):
        return np.exp(x)

    def log_slope(self, y):
        return -np.log(y)

    def accepts(self, y):
        return y > 0.0


class Log1p(Transform):
    """log (1 + y)."""

    name, needs = "'log1p'", "> -1"

    def forward(self, y):
        return np.log1p(y)

    def inverse(self, x):
        return np.expm1(x)

    def log_slope(self, y):
        return -np.log1p(y)

    def accepts(self, y):
        return y > -1.0


@dataclass(frozen=True, eq=False)
class BoxCox(Transform):
    """((y / unit)^power - 1) / power; log (y / unit) where the power is 0 (Box & Cox 1964).

    Attributes
    ----------
    power : ndarray of shape (n_outputs,)
        From 0 to 2.
    unit : ndarray of shape (n_outputs,)
        Geometric mean of y in training, so that f does not depend on the units of y.
    """

    power: np.ndarray
    unit: np.ndarray

    name, needs = "'box-cox'", "> 0"

    def forward(self, y):
        return boxcox(y / along(self.unit, y), along(self.power, y))

    def inverse(self, x):
        with np.errstate(divide="ignore", over="ignore"):
            edge = along(-1.0 / self.power, x)  # -inf where the power is 0: exp has no edge
        return along(self.unit, x) * inv_boxcox(np.maximum(x, edge), along(self.power, x))

    def log_slope(self, y):
        power, unit = along(self.power, y), along(self.unit, y)
        return (power - 1.0) * np.log(y / unit) - np.log(unit)

    def accepts(self, y):
        return y > 0.0


@dataclass(frozen=True, eq=False)
class YeoJohnson(Transform):
    """Box and Cox's transform of 1 + |y| / unit, mirrored below 0 (Yeo & Johnson 2000).

    Attributes
    ----------
    power : ndarray of shape (n_outputs,)
        From 0 to 2; 2 - power is used below 0.
    unit : ndarray of shape (n_outputs,)
        Root mean square of y in training, so that f does not depend on the units of y.
    """

    power: np.ndarray
    unit: np.ndarray

    name = "'yeo-johnson'"

    def forward(self, y):
        power, v = along(self.power, y), y / along(self.unit, y)
        return np.where(
            v < 0.0,
            -boxcox1p(np.maximum(-v, 0.0), 2.0 - power),
            boxcox1p(np.maximum(v, 0.0), power),
        )

    def inverse(self, x):
        power = along(self.power, x)
        return along(self.unit, x) * np.where(
            x < 0.0,
            -inv_boxcox1p(np.maximum(-x, 0.0), 2.0 - power),
            inv_boxcox1p(np.maximum(x, 0.0), power),
        )

    def log_slope(self, y):
        power, unit = along(self.power, y), along(self.unit, y)
        return np.sign(y) * (power - 1.0) * np.log1p(np.abs(y / unit)) - np.log(unit)


@dataclass(frozen=True, eq=False)
class Asinh(Transform):
    """unit arcsinh (y / unit): y itself near zero, logarithmic far from it (Johnson 1949).

    Noise of a constant part and one that grows with y, unit to 1, becomes constant (Huber et al.
    2002).

    Attributes
    ----------
    unit : ndarray of shape (n_outputs,)
        Where one becomes the other, in the units of y; inf: y itself everywhere.
    """

    unit: np.ndarray

    name = "'asinh'"

    def forward(self, y):
        bent, unit = self._bent(y)
        return np.where(bent, unit * np.arcsinh(y / unit), y)

    def inverse(self, x):
        bent, unit = self._bent(x)
        ratio = np.clip(np.where(bent, x / unit, 0.0), -MOST_BENT, MOST_BENT)
        return np.where(bent, unit * np.sinh(ratio), x)

    def log_slope(self, y):
        return -0.5 * np.log1p((y / along(self.unit, y)) ** 2)

    def inverse_within(self, x):
        """As `inverse` within the limits, beyond them in a straight line; all the way if not bent.

        Held there, a forecast beyond them would have a mean that no quantile is near, and no
        spread.
        """
        (bent, unit), held = self._bent(x), self._held(x)
        slope = np.cosh(np.where(bent, held / unit, 0.0))
        return np.where(bent, self.inverse(held) + slope * (x - held), x)

    def _bent(self, like: np.ndarray) -> tuple:
        """Which outputs are transformed, and their units, shaped as `along` does."""
        bent = np.isfinite(self.unit)
        return along(bent, like), along(np.where(bent, self.unit, 1.0), like)


@dataclass(frozen=True, eq=False)
class Pair(Transform):
    """Callables of the user: f, its inverse and, if there is a third, the derivative of f."""

    functions: tuple

    name, needs = "(f, inverse)", "such that f(y) is finite"

    def forward(self, y):
        known = ~np.isnan(y)
        x = np.full(y.shape, np.nan)
        with np.errstate(all="ignore"):  # outside its domain f may divide by zero: see `accepts`
            x[known] = self.functions[0](y[known])
        return x

    def inverse(self, x):
        return np.asarray(self.functions[1](x), dtype=np.float64)

    def log_slope(self, y):
        """Without a derivative: minus the log slope of the inverse, by a central difference.

        The inverse, unlike f, has no edge near which a step could leave its domain, and its
        argument has a scale: the limits.
        """
        known, slope = ~np.isnan(y), np.full(y.shape, np.nan)
        with np.errstate(all="ignore"):
            if len(self.functions) == 3:
                slope[known] = self.functions[2](y[known])
            else:
                step = STEP * np.broadcast_to(along(np.ptp(self.limits, axis=0), y), y.shape)[known]
                x = self.forward(y)[known]
                above, below = x + step, x - step  # not 2 step apart, but the nearest floats
                slope[known] = (above - below) / (self.inverse(above) - self.inverse(below))
            return np.log(slope)

    def accepts(self, y):
        return np.isfinite(self.forward(y))


def along(values: np.ndarray, like: np.ndarray) -> np.ndarray:
    """Values (n_outputs,) in a shape that broadcasts along axis 1 of `like`."""
    return values.reshape(-1, *[1] * (like.ndim - 2))


def check_domain(transform: Transform | None, y: np.ndarray, *, name: str, who: str) -> None:
    """Refuse observed values outside the domain of the transform.

    Parameters
    ----------
    transform : Transform or None
    y : ndarray of shape (n_rows, n_outputs)
        NaN where not observed.
    name, who : str
        Name of the argument and of whoever complains, for messages.

    Raises
    ------
    ValueError
        With the number of such values, the first of them and its row.
    """
    if transform is None:
        return
    observed = ~np.isnan(y)
    bad = observed & ~transform.accepts(y)
    if bad.any():
        row, column = np.argwhere(bad)[0]
        where = f"row {row}" if y.shape[1] == 1 else f"row {row}, output {column}"
        raise ValueError(
            f"{who}: {name} must be {transform.needs}, or NaN, with y_transform={transform.name}; "
            f"{np.count_nonzero(bad)} of {np.count_nonzero(observed)} observed values are not, "
            f"the first is {y[row, column]:.6g} in {where}"
        )
