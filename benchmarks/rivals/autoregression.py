"""An autoregression of every sequence on its own, with its inputs: AR(p), or ARX(p).

Without gaps by least squares with the order of best BIC; with gaps by the Kalman filter with an
order that the number of values allows. It learns from what is known of the sequence and nothing
else, so that one step ahead it keeps the coefficients of the first rows.
"""

import numpy as np
from sequences import Forecast, Sequence, gaussian_forecast
from statsmodels.tsa.ar_model import AutoReg, ar_select_order
from statsmodels.tsa.statespace.sarimax import SARIMAX

MOST_LAGS = 6
VALUES_PER_LAG = 5
FEWEST_VALUES = 8  # for a fit; before, the mean of what is known
MOST_STDS = 10.0  # forecasts of explosive fits are cut off so many standard deviations away


class Autoregression:
    """See the module."""

    def fit(self, train: list[Sequence]) -> "Autoregression":
        """Learn means, spreads and steps of the outputs: all there is before the first values."""
        outputs = np.concatenate([s.outputs for s in train])
        self.mean, self.std = np.nanmean(outputs, axis=0), np.nanstd(outputs, axis=0)
        self.step = np.array(
            [_step_size([s.outputs[:, o] for s in train]) for o in range(len(self.std))]
        )
        return self

    def forecast(
        self, known: list[Sequence], truth: list[Sequence], horizon: int | None, first: float = 0.1
    ) -> list[Forecast]:
        """Forecast; one step ahead with what the `first` share of the rows says of coefficients."""
        result = []
        for sequence, true in zip(known, truth, strict=True):
            n_rows = len(sequence.inputs)
            n_learned = max(1, round(first * n_rows)) if horizon else n_rows
            columns = [
                self._column(sequence.inputs, y, n_learned, horizon, o)
                for o, y in enumerate(sequence.outputs.T)
            ]
            mean, std = (np.stack(part, axis=1) for part in zip(*columns, strict=True))
            result.append(gaussian_forecast(mean, std, true.outputs))
        return result

    def _column(
        self, inputs: np.ndarray, y: np.ndarray, n_learned: int, horizon: int | None, o: int
    ) -> tuple[np.ndarray, np.ndarray]:
        """Mean and standard deviation (n_rows,) of one output."""
        seen = np.flatnonzero(np.isfinite(y[:n_learned]))
        if len(seen) < FEWEST_VALUES:
            return self._short(y, seen, horizon, o)
        last = seen[-1] + 1 if horizon is None else n_learned
        moving = np.ptp(inputs[:last], axis=0) > 0
        exog = inputs[:, moving] if moving.sum() * 2 < len(seen) // 2 else inputs[:, :0]
        complete = np.isfinite(y if horizon else y[:last]).all()
        fit = _least_squares if complete else _kalman
        try:
            mean, std = fit(y, exog, last, horizon)
        except (np.linalg.LinAlgError, ValueError):  # constant or nearly so
            return self._short(y, seen, horizon, o)
        reach = MOST_STDS * self.std[o]
        mean = np.clip(np.nan_to_num(mean, nan=self.mean[o]), *(self.mean[o] + [-reach, reach]))
        std = np.nan_to_num(std, nan=reach, posinf=reach)
        return mean, np.clip(std, 1e-3 * self.std[o], reach)

    def _short(self, y: np.ndarray, seen: np.ndarray, horizon: int | None, o: int) -> tuple:
        mean = np.full(len(y), y[seen].mean() if len(seen) else self.mean[o])
        if horizon:  # the last value is at least as good as the mean
            known = np.where(np.isfinite(y), np.arange(len(y)), -1)
            last = np.maximum.accumulate(known)[:-1]
            mean[1:] = np.where(last < 0, self.mean[o], y[np.maximum(last, 0)])
            std = np.concatenate(
                [self.std[o : o + 1], np.where(last < 0, self.std[o], self.step[o])]
            )
            return mean, std
        return mean, np.full(len(y), self.std[o])


def _step_size(columns: list[np.ndarray]) -> float:
    """Root mean square of the change from one observed value to the next."""
    steps = np.concatenate([np.diff(y[np.isfinite(y)]) for y in columns])
    return float(np.sqrt(np.mean(steps**2)))


def _least_squares(y: np.ndarray, exog: np.ndarray, last: int, horizon: int | None) -> tuple:
    most = int(np.clip(last // VALUES_PER_LAG, 1, MOST_LAGS))
    exog_or_none = (lambda rows: exog[rows]) if exog.shape[1] else (lambda rows: None)
    known = slice(0, last)
    lags = ar_select_order(y[known], most, ic="bic", exog=exog_or_none(known)).ar_lags or 0
    fit = AutoReg(y[known], lags, exog=exog_or_none(known)).fit()
    mean, std = np.full(len(y), np.nan), np.full(len(y), np.sqrt(fit.sigma2))
    if last < len(y) and horizon is None:
        rest = slice(last, len(y))
        ahead = fit.get_prediction(last, len(y) - 1, exog_oos=exog_or_none(rest))
        mean[rest], std[rest] = ahead.predicted_mean, ahead.se_mean
    elif horizon:
        fit = fit.apply(y, exog=exog_or_none(slice(None)))
        mean[fit.model.hold_back :] = fit.predict(fit.model.hold_back, len(y) - 1)
    return mean, std


def _kalman(y: np.ndarray, exog: np.ndarray, last: int, horizon: int | None) -> tuple:
    n_values = np.isfinite(y[:last]).sum()
    order = (int(np.clip(n_values // 10, 1, 2)), 0, 0)
    exog = exog if exog.shape[1] else None
    model = SARIMAX(y[:last], None if exog is None else exog[:last], order=order, trend="c")
    fit = model.fit(disp=0, maxiter=50)
    fit = fit.apply(y, exog=exog)
    prediction = fit.get_prediction()
    return prediction.predicted_mean, np.sqrt(np.maximum(prediction.var_pred_mean, 0))
