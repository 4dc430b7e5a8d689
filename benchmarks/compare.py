"""The estimators against their rivals, on synthetic and real families.

    python benchmarks/compare.py                            # all; about 40 minutes on two cores
    python benchmarks/compare.py --quick                    # smaller families, one fold
    python benchmarks/compare.py --data FOLDER              # with the csv files of a folder
    python benchmarks/compare.py --families "el nino" stores --methods MTLDSRegressor "mixed model"
    python benchmarks/compare.py --set n_states=8 latent_dim=6

Of every held-out sequence the first 5, 10, 25 or 50 % of the rows (at least one) are revealed, and
the rest is forecast, with the inputs known in advance; or every row after the first 10 % is
forecast from all before it ("one step"). `rmse` is the root mean square error in standard
deviations of the outputs, `nll` the negative log density in nats per value (of values in that unit;
of a normal with the forecast's mean and standard deviation where a method has no density),
`coverage` the share of values inside central 90 % intervals; all are means over held-out sequences,
with standard errors over sequences. A win or a loss is a difference, paired over sequences, of more
than its standard error. "log1p" learns log(1 + y) of outputs that are never negative, and is not
counted. `fit s` are the seconds of all fits of a family (folds), `forecast s` those of all
forecasts.

Results are kept in `benchmarks/cache`, so that a run that was cut short resumes, and only what
changed is measured again. The table goes to `benchmarks/results/compare.md`.
"""

import argparse
import ast
import datetime
import hashlib
import importlib
import json
import os
import platform
import shlex
import sys
import time
import warnings
from pathlib import Path

import families
from compare_report import family_table, summary
from joblib import Parallel, delayed
from methods import LOGGED, OURS, fingerprint, knows, makers, method_names
from scoring import evaluate
from threadpoolctl import threadpool_limits

HERE = Path(__file__).parent
VERSIONED = ("mtds_sklearn", "numpy", "scipy", "sklearn", "numba", "statsmodels")


def measure(family: str, method: str, sources: str, args: argparse.Namespace) -> dict:
    """Result of one method on one family, from the cache where it is there."""
    options = args.set if method in (OURS, LOGGED) else {}
    key = [family, method, args.seed, args.quick, options, sources]
    digest = hashlib.sha256(repr(key).encode()).hexdigest()[:16]
    path = args.cache / f"{family}-{method}-{digest}.json".replace(" ", "_")
    if path.exists() and not args.fresh:
        return json.loads(path.read_text())
    start = time.perf_counter()
    drawn = families.load(family, args.seed, args.data, args.quick)
    with warnings.catch_warnings(), threadpool_limits(1):
        warnings.simplefilter("ignore")  # of single fits; the table shows what came of them
        try:
            result = evaluate(makers(family, args.seed, options)[method], drawn)
        except Exception as error:  # one failure must not cost the rest of a long run
            result = {"failed": f"{type(error).__name__}: {error}"}
    print(f"{family}, {method}: {time.perf_counter() - start:.1f} s", file=sys.stderr, flush=True)
    if "failed" in result:
        print(f"{family}, {method}: {result['failed']}", file=sys.stderr, flush=True)
    else:
        path.write_text(json.dumps(result))
    return result


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--families", nargs="+", default=families.family_names(), metavar="NAME")
    add("--methods", nargs="+", default=method_names(), metavar="NAME")
    add("--quick", action="store_true", help="small families, one fold: minutes")
    add("--seed", type=int, default=0, help="of the families, folds and fits")
    add("--data", default=os.environ.get("MTDS_DATA"), help="folder of csv files (or MTDS_DATA)")
    add("--set", nargs="+", default=[], metavar="NAME=VALUE", help="parameters of MTLDSRegressor")
    add("--jobs", type=int, default=2, help="processes")
    add("--fresh", action="store_true", help="measure again what is in the cache")
    add("--cache", type=Path, default=HERE / "cache")
    add("--output", type=Path, default=HERE / "results" / "compare.md")
    args = parser.parse_args()
    args.set = {name: _value(text) for name, text in (item.split("=", 1) for item in args.set)}
    known = {"families": families.family_names(), "methods": method_names()}
    for option, names in known.items():
        unknown = set(getattr(args, option)) - set(names)
        if unknown:
            parser.error(f"--{option}: {sorted(unknown)} unknown, known are {names}")
    return args


def _value(text: str):
    try:
        return ast.literal_eval(text)
    except (ValueError, SyntaxError):  # a word is a string
        return text


def run_all(args: argparse.Namespace) -> dict:
    """Family -> (kind, method -> result), families that are absent left out."""
    kinds = {}
    for name in args.families:
        family = families.load(name, args.seed, args.data, args.quick)
        if family is None:
            print(f"{name}: no data, left out (see --data)", file=sys.stderr)
        else:
            kinds[name] = family.kind
    pairs = [(f, m) for f in kinds for m in args.methods if knows(m, f)]
    results = Parallel(n_jobs=args.jobs)(
        delayed(measure)(*pair, fingerprint(pair[1]), args) for pair in pairs
    )
    found = dict(zip(pairs, results, strict=True))
    return {
        family: (kind, {m: found[family, m] for m in args.methods if knows(m, family)})
        for family, kind in kinds.items()
    }


def header(args: argparse.Namespace, seconds: float) -> str:
    modules = map(importlib.import_module, VERSIONED)
    versions = ", ".join(f"{module.__name__} {module.__version__}" for module in modules)
    return (
        f"{datetime.date.today()}; seed {args.seed}; Python {platform.python_version()}, "
        f"{versions}; {seconds / 60:.1f} minutes, without what was in the cache.\n\n"
        f"    {_command(args)}\n"
    )


def _command(args: argparse.Namespace) -> str:
    """The command that gives the same table, wherever files lie."""
    words = ["python", "benchmarks/compare.py", "--seed", str(args.seed)]
    words += ["--quick"] if args.quick else []
    words += ["--data", "FOLDER"] if args.data else []
    for option, all_names in {
        "families": families.family_names(),
        "methods": method_names(),
    }.items():
        names = getattr(args, option)
        words += [] if names == all_names else [f"--{option}", *names]
    words += ["--set", *(f"{name}={value}" for name, value in args.set.items())] if args.set else []
    return shlex.join(words)


def main() -> None:
    args = parse_arguments()
    for folder in (args.cache, args.output.parent):
        folder.mkdir(parents=True, exist_ok=True)
    start = time.perf_counter()
    results = run_all(args)
    tables = [family_table(name, found) for name, (_, found) in results.items()]
    what = __doc__.split("\n\n")[2]
    report = [
        "# `MTLDSRegressor` and its rivals\n", header(args, time.perf_counter() - start),
        what + "\n", "## Summary\n", summary(results), "## Families\n", *tables,
    ]  # fmt: skip
    args.output.write_text("\n".join(report))
    print(f"{args.output}\n\n{summary(results)}")


if __name__ == "__main__":
    main()
