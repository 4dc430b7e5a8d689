"""A rival that learns log(1 + y) of outputs that are not negative, and forecasts y."""

import numpy as np
from scipy.stats import norm
from sequences import INTERVAL, Forecast, Sequence


class Logged:
    """A method with normal forecasts, on log(1 + y): those of y are log-normal, less one."""

    def __init__(self, method) -> None:
        self.method = method

    def fit(self, train: list[Sequence]) -> "Logged":
        self.method.fit([_logged(s) for s in train])
        return self

    def forecast(
        self, known: list[Sequence], truth: list[Sequence], horizon: int | None
    ) -> list[Forecast]:
        normal = self.method.forecast(
            *([_logged(s) for s in part] for part in (known, truth)), horizon
        )
        width = norm.ppf(INTERVAL[1]) - norm.ppf(INTERVAL[0])
        result = []
        for forecast, true in zip(normal, truth, strict=True):
            mean, low, high, log_density = forecast
            std = (high - low) / width
            log_density = log_density - np.log1p(true.outputs)
            mean = np.expm1(mean + std**2 / 2)
            result.append(Forecast(mean, np.expm1(low), np.expm1(high), log_density))
        return result


def _logged(sequence: Sequence) -> Sequence:
    return sequence._replace(outputs=np.log1p(sequence.outputs))
