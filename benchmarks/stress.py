"""Do the numbers break? Random small problems, one after the other, for all three estimators.

    python benchmarks/stress.py                       # seeds 0 .. 999: an hour or so
    python benchmarks/stress.py --seeds 0 50          # from 0 up to 50
    python benchmarks/stress.py --only 17             # one problem, with the traceback

A problem fails when anything raises, a warning other than the estimators' own is given (overflow,
invalid values), the bound falls within an iteration of EM, a covariance is not positive definite,
or a forecast, its standard deviation, quantiles or density is not finite or not in order.
`SingleTaskLDS`, which learns one sequence at a time, gets the first of a problem. Results are kept
in `benchmarks/cache/stress.jsonl`, one line per problem and estimator: a run resumes.
"""

import argparse
import json
import time
import traceback
import warnings
from collections import Counter
from pathlib import Path

import numpy as np
from sklearn.exceptions import ConvergenceWarning
from stress_problems import Problem, draw_problem
from threadpoolctl import threadpool_limits

from mtds_sklearn import MTLDSRegressor, PooledLDS, SingleTaskLDS
from mtds_sklearn.learning import _growth

LEVELS = (0.05, 0.5, 0.95)
MAX_ITER = 15  # of the last stage; breaking takes no convergence
FALL = 1e-8  # of the bound's size, that rounding may take from it


def make_estimators(problem: Problem) -> dict:
    shared = {"max_iter": MAX_ITER, "random_state": 0}
    sizes = {name: problem.parameters[name] for name in ("n_states", "transition")}
    return {
        "MTLDSRegressor": MTLDSRegressor(**problem.parameters, n_init=1, **shared),
        "PooledLDS": PooledLDS(**sizes, **shared),
        "SingleTaskLDS": SingleTaskLDS(**sizes, **shared),
    }


class Falls:
    """Watches every run of EM in the meantime for a bound that falls."""

    def __enter__(self) -> "Falls":
        self.worst, self._run_em = 0.0, _growth.run_em
        _growth.run_em = self._watched
        return self

    def __exit__(self, *_) -> None:
        _growth.run_em = self._run_em

    def _watched(self, *arguments, **options):
        result = self._run_em(*arguments, **options)
        size = 1.0 + np.abs(result.bounds).max()
        gains = [gain for gain in result.gains if np.isfinite(gain)]
        self.worst = min([self.worst, *(gain / size for gain in gains)])
        return result


def check(model, problem: Problem) -> None:
    """Fit and use an estimator; raise AssertionError for what is wrong."""
    if isinstance(model, SingleTaskLDS):
        problem = problem._replace(train=_first(problem.train), test=_first(problem.test))
    with Falls() as falls:
        model.fit(**problem.train)
    assert falls.worst >= -FALL, f"the bound fell by {-falls.worst:.1e} of its size"
    assert np.isfinite(model.noise_std_).all(), f"noise_std_ {model.noise_std_}"
    assert (model.noise_std_ >= 0).all(), f"noise_std_ {model.noise_std_}"
    if hasattr(model, "lower_bounds_"):
        assert np.isfinite(model.lower_bounds_).all(), "lower_bounds_ not finite"
    if hasattr(model, "posterior_cov_"):
        least = np.linalg.eigvalsh(model.posterior_cov_).min()
        assert least > 0, f"posterior_cov_ has the eigenvalue {least:.1e}"
    known = _known(problem)
    check_forecast(model, problem, y_context=known)
    check_forecast(model, problem, y_context=None)
    if not isinstance(model, SingleTaskLDS):
        check_forecast(model, problem, y_context=problem.test["y"], horizon=1)
    rows = {name: problem.test[name] for name in ("X", "y", "groups")}
    assert np.isfinite(model.sequence_log_likelihood(**rows)).all(), "likelihood not finite"


def _first(table: dict) -> dict:
    """Rows of the first sequence."""
    return {name: rows[table["groups"] == table["groups"][0]] for name, rows in table.items()}


def check_forecast(model, problem: Problem, **known) -> None:
    X, y, groups = (problem.test[name] for name in ("X", "y", "groups"))
    mean, std, quantiles = model.predict(
        X, groups=groups, return_std=True, quantiles=LEVELS, **known
    )
    for name, part in {"mean": mean, "std": std, "quantiles": quantiles}.items():
        assert np.isfinite(part).all(), f"{name} not finite with {list(known)}"
    assert (std > 0).all(), f"std {std.min():.1e} with {list(known)}"
    assert (np.diff(quantiles, axis=-1) >= 0).all(), f"quantiles cross with {list(known)}"
    density = model.forecast_log_density(X, y, groups=groups, **known)
    assert np.isfinite(density[np.isfinite(y)]).all(), f"density not finite with {list(known)}"


def _known(problem: Problem) -> np.ndarray:
    groups = problem.test["groups"]
    starts = np.flatnonzero(np.r_[True, np.diff(groups) > 0])
    place = np.arange(len(groups)) - np.repeat(starts, np.diff(np.r_[starts, len(groups)]))
    return np.where(place[:, None] < problem.n_known, problem.test["y"], np.nan)


def run(seed: int, names: list[str], raising: bool = False) -> list[dict]:
    """One line per estimator: seed, seconds, and what failed ("" for nothing)."""
    problem, lines = draw_problem(seed), []
    for name, model in make_estimators(problem).items():
        if name not in names:
            continue
        start = time.perf_counter()
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            warnings.simplefilter("ignore", ConvergenceWarning)
            warnings.filterwarnings("ignore", ".*rests on fewer")
            warnings.filterwarnings("ignore", ".*got 1 sequence")
            warnings.filterwarnings("ignore", ".*standard deviations from the mean of y")
            try:
                check(model, problem)
                failed = ""
            except Exception as error:
                if raising:
                    traceback.print_exc()
                failed = f"{type(error).__name__}: {error}"
        seconds = round(time.perf_counter() - start, 2)
        lines.append({"seed": seed, "estimator": name, "seconds": seconds, "failed": failed})
    return lines


def describe(problem: Problem) -> str:
    X, y, groups = problem.train["X"], problem.train["y"], problem.train["groups"]
    return (
        f"{len(np.unique(groups))} sequences, {len(X)} rows, {X.shape[1]} inputs, {y.shape[1]} "
        f"outputs, {np.isnan(y).mean():.0%} missing, {problem.parameters}"
    )


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--seeds", type=int, nargs=2, default=(0, 1000), metavar=("FROM", "TO"))
    add("--only", type=int, metavar="SEED", help="one problem, not cached, with its traceback")
    names = ["MTLDSRegressor", "PooledLDS", "SingleTaskLDS"]
    add("--estimators", nargs="+", default=names, choices=names)
    add("--fresh", action="store_true", help="forget results of earlier runs")
    add("--cache", type=Path, default=Path(__file__).parent / "cache" / "stress.jsonl")
    return parser.parse_args()


def main() -> None:
    args = parse_arguments()
    if args.only is not None:
        print(describe(draw_problem(args.only)))
        with threadpool_limits(1):
            for line in run(args.only, args.estimators, raising=True):
                print(line)
        return
    args.cache.parent.mkdir(parents=True, exist_ok=True)
    if args.fresh:
        args.cache.unlink(missing_ok=True)
    lines = []
    if args.cache.exists():
        lines = [json.loads(line) for line in args.cache.read_text().splitlines()]
    done = {(line["seed"], line["estimator"]) for line in lines}
    with threadpool_limits(1), args.cache.open("a") as file:
        for seed in range(*args.seeds):
            left = [name for name in args.estimators if (seed, name) not in done]
            for line in run(seed, left):
                lines.append(line)
                file.write(json.dumps(line) + "\n")
                file.flush()
    report(lines)


def report(lines: list[dict]) -> None:
    print("| estimator | problems | failed | seconds, median and most |")
    print("| :--- | ---: | ---: | ---: |")
    for name in dict.fromkeys(line["estimator"] for line in lines):
        own = [line for line in lines if line["estimator"] == name]
        seconds = [line["seconds"] for line in own]
        failed = sum(bool(line["failed"]) for line in own)
        times = f"{np.median(seconds):.2f}, {max(seconds):.0f}"
        print(f"| {name} | {len(own)} | {failed} | {times} |")
    kinds = Counter((line["estimator"], line["failed"][:60]) for line in lines if line["failed"])
    for (name, failed), count in kinds.most_common():
        seeds = [
            line["seed"]
            for line in lines
            if line["estimator"] == name and line["failed"][:60] == failed
        ]
        print(f"\n{name}, {count}: {failed}\n  seeds {seeds[:20]}")


if __name__ == "__main__":
    main()
