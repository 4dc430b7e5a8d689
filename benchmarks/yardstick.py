"""The yardstick: an estimator on two damped oscillators, against the oracle that knows the family.

Trains on 40 sequences and tests on 100 others, for several training sets (or, with
``--fixed-training-set``, several random states of the estimator on one training set) and sizes.

    python benchmarks/yardstick.py
    python benchmarks/yardstick.py --seeds 0 1 --sizes 4,4 --no-forecast
    python benchmarks/yardstick.py --fixed-training-set 0 --set transition=cayley
    python benchmarks/yardstick.py --estimator PooledLDS

Columns: `fit` seconds; `evaluate` seconds, for all the rest of the row; `log marginal` of a test
sequence in nats, mean, and minus the oracle's (its standard error comes from the sequences);
`blocks` of two states found; `rows` of the loadings with relevance precision below 1000;
`NLL+c`: negative log density of what follows c observations, nats per value, minus the oracle's
(Gaussian of the forecast's mean and standard deviation); `RMSE*c`: its root mean square error
against noisy y, as a ratio to the oracle's.
"""

import argparse
import ast
import datetime
import importlib
import inspect
import platform
import sys
import time
import warnings
from typing import NamedTuple

import numpy as np
from oracle import oracle_forecast, oracle_log_marginal, score_forecast
from sklearn.utils import Bunch

import mtds_sklearn
from mtds_sklearn.datasets import make_oscillators

N_STEPS = 80
CONTEXTS = (10, 20, 40)
# Labels of test sequences that no training set uses: a seen label would stand for its posterior.
FIRST_TEST_LABEL = 1_000_000
ROW_IS_RELEVANT_BELOW = 1000.0


class Oracle(NamedTuple):
    """What the oracle reaches on the test set."""

    log_marginal: np.ndarray  # (n,)
    forecasts: dict  # context -> (negative log density per value, RMSE)


def measure_oracle(test: Bunch, contexts: tuple) -> Oracle:
    y = test.y.reshape(-1, N_STEPS)
    forecasts = {c: score_forecast(y, *oracle_forecast(y, c)) for c in contexts}
    return Oracle(oracle_log_marginal(y), forecasts)


def run(model, train: Bunch, test: Bunch, oracle: Oracle) -> dict:
    """Fit and measure; the result maps column names to numbers."""
    start = time.perf_counter()
    model.fit(train.X, train.y, groups=train.groups, times=train.times)
    fitted = time.perf_counter()
    rows = {"groups": test.groups + FIRST_TEST_LABEL, "times": test.times}
    log_marginal = np.asarray(model.sequence_log_likelihood(test.X, test.y, **rows))
    behind = log_marginal - oracle.log_marginal
    result = {
        "fit": fitted - start,
        "evaluate": np.nan,
        "log marginal": log_marginal.mean(),
        "- oracle": behind.mean(),
        "std. error": behind.std(ddof=1) / np.sqrt(len(behind)) if len(behind) > 1 else np.nan,
        "blocks": count_blocks(model),
        "rows": count_rows(model),
    }
    y = test.y.reshape(-1, N_STEPS)
    for context, (density, error) in oracle.forecasts.items():
        revealed = np.where(test.times < context, test.y, np.nan)
        mean, std = model.predict(test.X, **rows, y_context=revealed, return_std=True)
        remaining = [values.reshape(-1, N_STEPS)[:, context:] for values in (mean, std)]
        found = score_forecast(y, *remaining)
        result[f"NLL+{context}"], result[f"RMSE*{context}"] = found[0] - density, found[1] / error
    result["evaluate"] = time.perf_counter() - fitted
    return result


def count_blocks(model) -> float:
    """Blocks of two states (the last may have one) that the fit kept; NaN if it does not say."""
    n_states = getattr(model, "n_states_", getattr(_chart(model), "n_states", np.nan))
    return np.ceil(n_states / 2)


def count_rows(model) -> float:
    """Entries of theta that vary; NaN if the estimator does not say."""
    relevance = getattr(getattr(model, "task_map_", None), "precision", None)
    relevance = getattr(model, "relevance_", None) if relevance is None else relevance
    if relevance is None:
        return np.nan
    relevance = np.asarray(relevance)
    return float(
        (relevance if relevance.dtype == bool else relevance < ROW_IS_RELEVANT_BELOW).sum()
    )


def _chart(model):
    return getattr(getattr(model, "task_map_", None), "chart", None)


def make_model(name: str, size: tuple[int, int], random_state: int, options: dict):
    """Build the estimator with the parameters of the size that it knows."""
    estimator = getattr(importlib.import_module("mtds_sklearn"), name)
    known = inspect.signature(estimator).parameters
    given = {"n_states": size[0], "latent_dim": size[1], "random_state": random_state}
    return estimator(**{key: value for key, value in given.items() if key in known} | options)


def warm_up(args: argparse.Namespace) -> float:
    """Compile what a fit and its evaluation need; return the seconds."""
    start = time.perf_counter()
    train, test = make_oscillators(6, N_STEPS, random_state=0), make_oscillators(2, random_state=1)
    nothing_known = Oracle(np.zeros(2), {} if args.no_forecast else {40: (0.0, 1.0)})
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            run(make_model(args.estimator, args.sizes[0], 0, args.set), train, test, nothing_known)
        except Exception as error:  # six sequences may be too few for what 40 are enough for
            print(f"Warm-up failed, {type(error).__name__}: {error}", file=sys.stderr)
    return time.perf_counter() - start


def print_row(cells: list) -> None:
    shown = [cell if isinstance(cell, str) else f"{cell:.4g}" for cell in cells]
    print("| " + " | ".join(shown) + " |", flush=True)


def formatted(result: dict) -> list[str]:
    digits = {"fit": 2, "evaluate": 1, "blocks": 0, "rows": 0, "log marginal": 2, "- oracle": 2}
    not_said = {"blocks", "rows"}  # NaN anywhere else is a failure and must be seen
    return [
        "-" if name in not_said and np.isnan(value) else f"{value:.{digits.get(name, 3)}f}"
        for name, value in result.items()
    ]


def print_size(size: tuple[int, int], args: argparse.Namespace, test: Bunch, oracle: Oracle) -> int:
    """Print a row per seed and their mean; return how many fits failed."""
    results, n_failed = [], 0
    for seed in args.seeds:
        fixed = args.fixed_training_set
        train = make_oscillators(args.n_train, random_state=seed if fixed is None else fixed)
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            try:
                result = run(make_model(args.estimator, size, seed, args.set), train, test, oracle)
            except Exception as error:  # one failure must not cost the other rows of a long run
                n_failed += 1
                print_row([str(seed), f"{size[0]}, {size[1]}", f"{type(error).__name__}: {error}"])
                continue
        results.append(result)
        kinds = sorted({warning.category.__name__ for warning in caught})
        print_row([str(seed), f"{size[0]}, {size[1]}", *formatted(result), ", ".join(kinds)])
    if len(results) > 1:
        mean = {name: np.mean([result[name] for result in results]) for name in results[0]}
        print_row([f"mean of {len(results)}", f"{size[0]}, {size[1]}", *formatted(mean), ""])
    return n_failed


def parse_arguments() -> argparse.Namespace:
    def size(text: str) -> tuple[int, int]:
        n_states, latent_dim = text.split(",")
        return int(n_states), int(latent_dim)

    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--estimator", default="MTLDSRegressor", help="a name in mtds_sklearn")
    add("--seeds", type=int, nargs="+", default=[0, 1, 2, 3, 4])
    add("--sizes", type=size, nargs="+", default=[(4, 4), (8, 6)], metavar="STATES,LATENT")
    add("--no-forecast", action="store_true", help="only the log marginal likelihood")
    add(
        "--fixed-training-set", type=int, metavar="SEED", help="seeds then go to the estimator only"
    )
    add("--n-train", type=int, default=40)
    add("--n-test", type=int, default=100)
    add("--set", nargs="+", default=[], metavar="NAME=VALUE", help="parameters of the estimator")
    args = parser.parse_args()
    args.set = dict(item.split("=", 1) for item in args.set)
    for name, text in args.set.items():
        try:
            args.set[name] = ast.literal_eval(text)
        except (ValueError, SyntaxError):  # a word is a string
            args.set[name] = text
    return args


def main() -> None:
    args = parse_arguments()
    test = make_oscillators(args.n_test, random_state=10_000)
    oracle = measure_oracle(test, () if args.no_forecast else CONTEXTS)
    compiled = warm_up(args)
    modules = [mtds_sklearn, *map(importlib.import_module, ("sklearn", "numpy", "scipy", "numba"))]
    versions = ", ".join(f"{module.__name__} {module.__version__}" for module in modules)
    training = (
        "one training set per seed"
        if args.fixed_training_set is None
        else f"training set {args.fixed_training_set}, seeds are the estimator's"
    )
    print(f"{args.estimator}({args.set or ''}), {datetime.date.today()}, {training},", end=" ")
    print(f"{args.n_train} training and {args.n_test} test sequences.")
    print(f"Python {platform.python_version()}, {versions}. Warm-up {compiled:.1f} s.", end=" ")
    print(f"Oracle: {oracle.log_marginal.mean():.2f} nats per sequence", end="")
    for context, (density, error) in oracle.forecasts.items():
        print(f"; after {context}: NLL {density:.3f}, RMSE {error:.4f}", end="")
    print(".\n")
    columns = [
        "seed",
        "states, latent",
        "fit",
        "evaluate",
        "log marginal",
        "- oracle",
        "std. error",
    ]
    columns += ["blocks", "rows"]
    columns += [f"{name}{c}" for c in oracle.forecasts for name in ("NLL+", "RMSE*")] + ["warnings"]
    print_row(columns)
    print_row(["---:"] * (len(columns) - 1) + [":---"])
    sys.exit(sum(print_size(size, args, test, oracle) for size in args.sizes) > 0)


if __name__ == "__main__":
    main()
