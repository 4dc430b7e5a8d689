"""The estimators of the package behind the two calls of the comparison."""

import numpy as np
from sequences import INTERVAL, Forecast, Sequence, stack, unstack_rows

import mtds_sklearn

# Labels that no training set uses: a label that `fit` saw would stand for its posterior.
FIRST_NEW_LABEL = 1_000_000


class Estimator:
    """An estimator of `mtds_sklearn`, by its name and parameters."""

    def __init__(self, name: str, **parameters) -> None:
        self.model = getattr(mtds_sklearn, name)(**parameters)

    def fit(self, train: list[Sequence]) -> "Estimator":
        self.model.fit(**stack(train))
        return self

    def forecast(
        self, known: list[Sequence], truth: list[Sequence], horizon: int | None
    ) -> list[Forecast]:
        rows = stack(known, FIRST_NEW_LABEL)
        X, arguments = rows.pop("X"), rows | {"horizon": horizon}
        arguments["y_context"] = arguments.pop("y")
        mean, quantiles = self.model.predict(X, **arguments, quantiles=INTERVAL)
        true = np.concatenate([s.outputs for s in truth])
        log_density = self.model.forecast_log_density(X, true, **arguments)
        values = (mean, quantiles[..., 0], quantiles[..., 1], log_density)
        parts = [unstack_rows(value, known) for value in values]
        return [Forecast(*part) for part in zip(*parts, strict=True)]
