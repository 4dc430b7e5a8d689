"""Whole fits: seconds, and what the result is worth on sequences that were not seen.

    python benchmarks/speed.py fits

Two tables. Two damped oscillators: 40 training sequences of 80 rows. One damped oscillator: 20 of
40 rows, small enough for the whole posterior by NUTS.
"""

import time
import warnings

import numpy as np
from oracle import oracle_forecast, oracle_log_marginal
from rivals.recurrent import Recurrent
from sequences import revealed, sequences_of
from statsmodels.tsa.statespace.sarimax import SARIMAX

from mtds_sklearn import MTLDSRegressor, PooledLDS
from mtds_sklearn.datasets import make_oscillators
from speed_parts.monte_carlo import learn
from speed_parts.pooled_em import PooledSystem
from speed_parts.sampled import sample

FIRST_TEST_LABEL = 1_000_000


def log_normal(y, mean, std) -> float:
    """Mean log density per value."""
    return float(np.mean(-0.5 * ((y - mean) / std) ** 2 - np.log(std) - 0.5 * np.log(2 * np.pi)))


class Task:
    """Training and test sequences of `make_oscillators`, and how a method did on them."""

    def __init__(self, n_train: int, n_rows: int, n_oscillators: int, n_test: int) -> None:
        options = {"n_steps": n_rows, "n_oscillators": n_oscillators}
        self.train = make_oscillators(n_train, random_state=0, **options)
        self.test = make_oscillators(n_test, random_state=10_000, **options)
        self.context, self.n_oscillators = n_rows // 2, n_oscillators
        self.y, self.y_test = (b.y.reshape(-1, n_rows) for b in (self.train, self.test))
        self.mean, self.std = self.y.mean(), self.y.std()
        self.shift = n_rows * np.log(self.std)

    def scaled(self, y: np.ndarray) -> np.ndarray:
        return (y - self.mean) / self.std

    def judge(self, model) -> tuple:
        """Nats per test sequence, and per value after the first half of its rows."""
        test = self.test
        rows = {"groups": test.groups + FIRST_TEST_LABEL, "times": test.times}
        whole = model.sequence_log_likelihood(test.X, test.y, **rows)
        known = np.where(test.times < self.context, test.y, np.nan)
        later = model.forecast_log_density(test.X, test.y, y_context=known, **rows)
        return float(np.mean(whole)), float(np.mean(later[test.times >= self.context]))

    def judge_family(self, model, family) -> tuple:
        """The same of a family of standardised outputs, by the inference of a fitted model."""
        model.task_map_ = family
        return self.judge(model)

    def oracle(self) -> tuple:
        whole = oracle_log_marginal(self.y_test, n_oscillators=self.n_oscillators).mean()
        forecast = oracle_forecast(self.y_test, self.context, n_oscillators=self.n_oscillators)
        return float(whole), log_normal(self.y_test[:, self.context :], *forecast)


def timed(function) -> tuple:
    start = time.process_time()
    result = function()
    return time.process_time() - start, result


def ours(task: Task, model) -> tuple:
    rows = {"groups": task.train.groups, "times": task.train.times}
    seconds = [timed(lambda: model.fit(task.train.X, task.train.y, **rows))[0] for _ in range(3)]
    return min(seconds), *task.judge(model)


def recurrent(task: Task) -> tuple:
    seconds, model = timed(lambda: Recurrent(0).fit(sequences_of(task.train)))
    test = sequences_of(task.test)
    steps = model.forecast(test, test, 1)
    known = [revealed(sequence, task.context) for sequence in test]
    later = [f.log_density[task.context :].mean() for f in model.forecast(known, test, None)]
    return seconds, np.mean([f.log_density.sum() for f in steps]), np.mean(later)


def pooled_em(task: Task) -> tuple:
    model = PooledSystem(4)
    seconds, _ = timed(lambda: model.fit(task.scaled(task.y)))
    y = task.scaled(task.y_test)
    later = log_normal(y[:, task.context :], *model.forecast(y, task.context))
    return seconds, model.log_marginal(y).mean() - task.shift, later - np.log(task.std)


def per_series(task: Task, n_series: int) -> tuple:
    """ARMA(4, 3) of the first half of each test sequence by itself; seconds are those of 40."""
    y, values = task.y_test[:n_series], []
    start = time.process_time()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for rows in y:
            fit = SARIMAX(rows[: task.context], order=(4, 0, 3), trend="c").fit(disp=False)
            forecast = fit.get_forecast(len(rows) - task.context)
            std = np.sqrt(forecast.var_pred_mean)
            values.append(log_normal(rows[task.context :], forecast.predicted_mean, std))
    seconds = (time.process_time() - start) * len(task.y) / n_series
    return seconds, np.nan, np.mean(values)


def monte_carlo(task: Task, judge, n_states: int, latent_dim: int, n_steps: int) -> tuple:
    seconds, family = timed(lambda: learn(task.scaled(task.y), n_states, latent_dim, n_steps))
    return seconds, *task.judge_family(judge, family)


def sampled(task: Task, judge, n_draws: int) -> tuple:
    """Densities are means over ten of the draws."""
    seconds, families = timed(lambda: sample(task.scaled(task.y), 2, 2, n_draws))
    chosen = families[:: max(1, len(families) // 10)]
    found = np.array([task.judge_family(judge, family) for family in chosen])
    return seconds, *found.mean(axis=0)


def table(title: str, rows: dict, task: Task) -> list[str]:
    lines = [f"\n## {title}\n", "| method | fit, s | nats per sequence | nats per later value |"]
    lines.append("| :--- | ---: | ---: | ---: |")
    rows = {"the oracle": lambda: (np.nan, *task.oracle()), **rows}
    for name, measure in rows.items():
        cells = [f"{value:.{d}f}" for value, d in zip(measure(), (2, 2, 3), strict=True)]
        cells = ["-" if cell == "nan" else cell for cell in cells]
        lines.append(f"| {name} | " + " | ".join(cells) + " |")
        print(lines[-1], flush=True)
    return lines


def report(quick: bool) -> str:
    """The section of the results."""
    two, one = Task(40, 80, 2, 20 if quick else 100), Task(20, 40, 1, 20 if quick else 100)
    fixed = MTLDSRegressor(4, 4, n_init=1, disturbance="none", random_state=0)
    small = MTLDSRegressor(2, 2, n_init=1, disturbance="none", random_state=0)
    n_steps, n_draws = (50, 10) if quick else (1000, 300)
    rows = {
        "`MTLDSRegressor(4, 4)`, no disturbance": lambda: ours(two, fixed),
        "`MTLDSRegressor()`": lambda: ours(two, MTLDSRegressor(random_state=0)),
        "`PooledLDS(4)`": lambda: ours(two, PooledLDS(4)),
        f"Monte-Carlo objective, {n_steps} steps of Adam, JAX": lambda: monte_carlo(
            two, fixed, 4, 4, n_steps
        ),
        f"the same, {4 * n_steps} steps": lambda: monte_carlo(two, fixed, 4, 4, 4 * n_steps),
        "pooled GRU, torch": lambda: recurrent(two),
        "pooled EM, dynamax, 4 states": lambda: pooled_em(two),
        "ARMA(4, 3) per series, statsmodels": lambda: per_series(two, 5 if quick else 10),
    }
    text = table("Two damped oscillators, 40 sequences of 80 rows", rows, two)
    rows = {
        "`MTLDSRegressor(2, 2)`, no disturbance": lambda: ours(one, small),
        f"NUTS, {n_draws} + {n_draws} draws, NumPyro": lambda: sampled(one, small, n_draws),
        f"Monte-Carlo objective, {n_steps} steps": lambda: monte_carlo(one, small, 2, 2, n_steps),
    }
    text += table("One damped oscillator, 20 sequences of 40 rows", rows, one)
    notes = (
        "Seconds of the processor for one fit, one thread; compilation by JAX included (it is part "
        "of every fit there), ours the least of three. Nats: mean log density of a whole unseen "
        "sequence, and of a value in its second half given the first. ARMA sees the first half of "
        "an unseen sequence alone; its seconds are scaled to 40 series. Families from the "
        "Monte-Carlo objective and from NUTS are judged by the inference of this package, the "
        "latter by the mean over ten draws."
    )
    return "\n".join(["# Fits", "", notes, *text, ""])
