"""How far forecasts are from those of an oracle, after so many rows of each held-out sequence.

The oracle knows the family as it was made (`rivals/knowing.py`); the rival is the linear mixed
model on filtered inputs. For every family and training set (seed) one line a method: negative log
density above the oracle's in nats per value of what follows, with its standard error over the test
sequences, root mean square error in standard deviations of y, and per cent of the values inside the
90 % intervals.

    python benchmarks/gaps.py
    python benchmarks/gaps.py --families stores --seeds 3 4 --contexts 20 --set latent_dim=4

"promotions" are stores with four promotions of their own effects: sixteen numbers differ, more than
growth begins with. There the oracle, which samples in sixteen dimensions, is too sure itself.
"""

import argparse
import ast
import time
import warnings

import families
import made_families
import numpy as np
from methods import OURS, makers
from scoring import score
from sequences import revealed
from threadpoolctl import threadpool_limits

NAMES = ("drug response", "stores", "eight outputs", "promotions")
RIVALS = ("oracle", "mixed model")

families.SYNTHETIC["promotions"] = (made_families.make_promotions, {}, 100, 40)


def scores(method, test: list, unit: np.ndarray, contexts: list[int]) -> dict:
    """Context -> metric -> one value per test sequence, NaN where nothing is left."""
    found = {}
    for context in contexts:
        forecasts = method.forecast([revealed(s, context) for s in test], test, None)
        rows = [score(s, f, context, unit) for s, f in zip(test, forecasts, strict=True)]
        found[context] = {key: np.array([row[key] for row in rows], float) for key in rows[0]}
    return found


def line(name: str, found: dict, oracle: dict) -> str:
    """Cells of one method."""
    cells = []
    for context, values in found.items():
        above = values["nll"] - oracle[context]["nll"]
        error = np.nanstd(above) / np.sqrt(np.sum(np.isfinite(above)))
        cells.append(
            f"{np.nanmean(above):+.3f} ± {error:.3f}, {np.nanmean(values['rmse']):.3f}, "
            f"{100 * np.nanmean(values['coverage']):.0f} %"
        )
    return " | ".join(["", name, *cells, ""]).strip()


def run(family: str, seed: int, contexts: list[int], options: dict) -> None:
    """Print the table of one training set."""
    drawn = families.load(family, seed, None)
    (part,) = drawn.parts
    print(f"\n{family}, seed {seed}\n")
    print(" | ".join(["", "method", *(f"c = {c}" for c in contexts), ""]).strip())
    print("| --- " * (len(contexts) + 1) + "|")
    oracle = None
    for name in (*RIVALS, OURS):
        start = time.perf_counter()
        method = makers(family, seed, options)[name]().fit(part.train)
        seconds = time.perf_counter() - start
        found = scores(method, part.test, drawn.output_std, contexts)
        oracle = oracle or found
        print(line(name, found, oracle), flush=True)
    model = method.model
    print(f"\n{model.n_states_} states, {model.latent_dim_} latents found; fit {seconds:.0f} s")


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--families", nargs="+", default=NAMES, choices=[*families.SYNTHETIC])
    add("--seeds", nargs="+", type=int, default=[0])
    add("--contexts", nargs="+", type=int, default=[10, 20, 40])
    add("--set", nargs="+", default=[], metavar="NAME=VALUE", help="parameters of MTLDSRegressor")
    args = parser.parse_args()
    pairs = (item.split("=", 1) for item in args.set)
    options = {name: value if value.isalpha() else ast.literal_eval(value) for name, value in pairs}
    warnings.simplefilter("ignore")
    with threadpool_limits(1):
        for family in args.families:
            for seed in args.seeds:
                run(family, seed, args.contexts, options)


if __name__ == "__main__":
    main()
