"""Two rivals that know training curves and nothing of dynamics: neighbours, and a Gaussian."""

import numpy as np
from scipy.spatial.distance import cdist
from sequences import Forecast, Sequence, gaussian_forecast
from sklearn.covariance import ledoit_wolf

from rivals.conditioning import condition

NEIGHBOURS = (3, 5, 10, 20)
MIN_STD = 0.01  # share of the outputs' standard deviation


class _Curves:
    """Training curves as an array, gaps filled: linearly inside, by the mean curve at the ends."""

    def _store(self, train: list[Sequence]) -> None:
        n_rows = max(len(s.outputs) for s in train)
        outputs = [np.full((n_rows, train[0].outputs.shape[1]), np.nan) for _ in train]
        for array, sequence in zip(outputs, train, strict=True):
            array[: len(sequence.outputs)] = sequence.outputs
        self.curves = np.array(outputs)  # (n, n_rows, n_outputs)
        steps = np.arange(n_rows)
        self.std = np.nanstd(self.curves, axis=(0, 1))
        for curve in self.curves:
            for o, values in enumerate(curve.T):
                seen = np.flatnonzero(np.isfinite(values))
                if len(seen):
                    filled = np.interp(steps, seen, values[seen], left=np.nan, right=np.nan)
                    curve[:, o] = filled
        for o in range(self.curves.shape[2]):
            counts = np.isfinite(self.curves[:, :, o]).sum(axis=0)
            totals = np.nansum(self.curves[:, :, o], axis=0)
            some = np.flatnonzero(counts)
            mean = np.interp(steps, some, totals[some] / counts[some])
            gaps = np.isnan(self.curves[:, :, o])
            self.curves[:, :, o][gaps] = np.broadcast_to(mean, gaps.shape)[gaps]

    def _cut(self, n_rows: int) -> np.ndarray:
        """Curves of so many rows; past the longest training sequence the last row repeats."""
        return self.curves[:, np.minimum(np.arange(n_rows), self.curves.shape[1] - 1)]


class GaussianCurves(_Curves):
    """A normal distribution of whole curves (Ledoit & Wolf 2004), conditioned on what is known."""

    def fit(self, train: list[Sequence]) -> "GaussianCurves":
        self._store(train)
        return self

    def forecast(
        self, known: list[Sequence], truth: list[Sequence], horizon: int | None
    ) -> list[Forecast]:
        moments: dict[int, tuple] = {}
        result = []
        for sequence, true in zip(known, truth, strict=True):
            n_rows = len(sequence.outputs)
            if n_rows not in moments:
                moments[n_rows] = self._moments(n_rows)
            mean, std = condition(*moments[n_rows], sequence.outputs, horizon)
            result.append(gaussian_forecast(mean, std, true.outputs))
        return result

    def _moments(self, n_rows: int) -> tuple[np.ndarray, np.ndarray]:
        curves = self._cut(n_rows)
        mean = curves.mean(axis=0)
        scaled = ((curves - mean) / self.std).reshape(len(curves), -1)
        cov = ledoit_wolf(scaled, assume_centered=True)[0] + MIN_STD**2 * np.eye(scaled.shape[1])
        std = np.tile(self.std, n_rows)
        return mean, std[:, None] * cov * std


class NearestCurves(_Curves):
    """Mean and spread of the training curves that are nearest in what is known.

    How many is chosen by the density that they give to training curves left out.
    """

    def fit(self, train: list[Sequence]) -> "NearestCurves":
        self._store(train)
        self.chosen: dict[tuple, int] = {}  # by which values are known: often many times the same
        return self

    def forecast(
        self, known: list[Sequence], truth: list[Sequence], horizon: int | None
    ) -> list[Forecast]:
        result = []
        for sequence, true in zip(known, truth, strict=True):
            outputs, curves = sequence.outputs, self._cut(len(sequence.outputs))
            if horizon is None:
                mean, std = self._predict(curves, outputs, curves)
            else:
                rows = [
                    self._predict(curves[:, :t], outputs[:t], curves[:, t])
                    for t in range(len(outputs))
                ]
                mean, std = (np.array(part) for part in zip(*rows, strict=True))
            result.append(gaussian_forecast(mean, std, true.outputs))
        return result

    def _predict(self, curves: np.ndarray, outputs: np.ndarray, future: np.ndarray) -> tuple:
        seen = np.isfinite(outputs)
        if not seen.any():
            return self._spread(future)
        features, target = (curves / self.std)[:, seen], (outputs / self.std)[seen]
        key = (future.shape[1:], seen.tobytes())
        if key not in self.chosen:
            self.chosen[key] = self._choose(features, future)
        distance = ((features - target) ** 2).sum(axis=1)
        return self._spread(future[np.argsort(distance, kind="stable")[: self.chosen[key]]])

    def _choose(self, features: np.ndarray, future: np.ndarray) -> int:
        distance = cdist(features, features)
        np.fill_diagonal(distance, np.inf)
        order = np.argsort(distance, axis=1, kind="stable")
        losses = {}
        for k in sorted({min(k, len(features) - 1) for k in NEIGHBOURS}):
            mean, std = self._spread(np.moveaxis(future[order[:, :k]], 1, 0))
            losses[k] = np.mean(np.log(std) + 0.5 * ((future - mean) / std) ** 2)
        return min(losses, key=losses.get)

    def _spread(self, neighbours: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        k = len(neighbours)
        variance = neighbours.var(axis=0, ddof=1 if k > 1 else 0) * (1 + 1 / k)
        return neighbours.mean(axis=0), np.sqrt(variance + (MIN_STD * self.std) ** 2)
