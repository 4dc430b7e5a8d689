"""Tasks of the comparison, and scores of forecasts per sequence."""

import time
from typing import NamedTuple

import numpy as np
from families import Family
from sequences import Forecast, Sequence, revealed

METRICS = ("rmse", "nll", "coverage")


class Task(NamedTuple):
    """Reveal a share of a sequence's rows, then forecast the rest, or one step ahead."""

    name: str
    share: float
    horizon: int | None

    def n_known(self, sequence: Sequence) -> int:
        return max(1, round(self.share * len(sequence.inputs)))


TASKS = (
    Task("5 %", 0.05, None),
    Task("10 %", 0.10, None),
    Task("25 %", 0.25, None),
    Task("50 %", 0.50, None),
    Task("one step", 0.10, 1),
)


def evaluate(make_method, family: Family) -> dict:
    """Fit and forecast every part of a family.

    Returns
    -------
    dict
        "fit" and "forecast" seconds over all parts; "tasks": task name -> metric -> one value per
        test sequence, in the order of the parts, None where nothing is left to score. A task that
        a method refuses is missing.
    """
    unit = family.output_std
    seconds = {"fit": 0.0, "forecast": 0.0}
    tasks: dict[str, dict[str, list]] = {}
    for part in family.parts:
        start = time.perf_counter()
        method = make_method().fit(part.train)
        seconds["fit"] += time.perf_counter() - start
        start = time.perf_counter()
        for task in TASKS:
            scores = _score_task(method, part.test, task, unit)
            if scores is not None:
                row = tasks.setdefault(task.name, {metric: [] for metric in METRICS})
                for metric in METRICS:
                    row[metric] += [score[metric] for score in scores]
        seconds["forecast"] += time.perf_counter() - start
    return seconds | {"tasks": tasks}


def _score_task(method, test: list[Sequence], task: Task, unit: np.ndarray) -> list[dict] | None:
    if task.horizon is not None and not getattr(method, "one_step", True):
        return None
    counts = [task.n_known(s) for s in test]
    known = test
    if task.horizon is None:
        known = [revealed(s, n) for s, n in zip(test, counts, strict=True)]
    forecasts = method.forecast(known, test, task.horizon)
    return [
        score(sequence, forecast, n, unit)
        for sequence, forecast, n in zip(test, forecasts, counts, strict=True)
    ]


def score(sequence: Sequence, forecast: Forecast, n_known: int, unit: np.ndarray) -> dict:
    """Scores of the rows after the first `n_known`, values in units of the outputs' spread.

    "rmse" root mean square error; "nll" negative log density, nats per value; "coverage" share of
    the values inside the central 90 % interval.
    """
    truth, forecast = sequence.outputs[n_known:], Forecast(*(part[n_known:] for part in forecast))
    seen = np.isfinite(truth)
    if not seen.any():
        return dict.fromkeys(METRICS)
    if not all(np.isfinite(part[seen]).all() for part in forecast[:3]):
        raise FloatingPointError("A forecast is not finite.")
    error = ((truth - forecast.mean) / unit)[seen]
    density = (forecast.log_density + np.log(unit))[seen]
    inside = ((forecast.low <= truth) & (truth <= forecast.high))[seen]
    return {
        "rmse": float(np.sqrt(np.mean(error**2))),
        "nll": float(-np.mean(density)),
        "coverage": float(np.mean(inside)),
    }
