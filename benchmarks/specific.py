"""What specific variances gain where `latent_dim` is too small, and that they do no harm else.

For every family, training set (seed) and latent_dim one line without specific variances and one
with them, below the oracle that knows the family as it was made and the linear mixed model on
filtered inputs: columns as of `gaps.py`, and behind them fit seconds of the processor and how many
entries of theta have a variance of their own.

    python benchmarks/specific.py
    python benchmarks/specific.py --families stores --seeds 3 --latents 1 auto
"""

import argparse
import time
import warnings

import families
import numpy as np
from gaps import RIVALS, line, scores
from methods import OURS, makers
from threadpoolctl import threadpool_limits

NAMES, CONTEXTS = ("drug response", "stores"), (10, 20, 40)


def run(family: str, seed: int, latents: list) -> None:
    """Print the table of one training set."""
    drawn = families.load(family, seed, None)
    (part,) = drawn.parts
    print(f"\n{family}, seed {seed}\n")
    contexts = (f"c = {c}" for c in CONTEXTS)
    print(" | ".join(["", "latent_dim, specific_variances", *contexts, "fit, entries", ""]).strip())
    print("| --- " * (len(CONTEXTS) + 2) + "|")
    oracle = None

    def measure(name: str, label: str, options: dict) -> None:
        nonlocal oracle
        start = time.process_time()
        method = makers(family, seed, options)[name]().fit(part.train)
        cost = f"{time.process_time() - start:.1f} s"
        if name == OURS:
            cost += f", {np.count_nonzero(method.model.specific_variances_)}"
        found = scores(method, part.test, drawn.output_std, list(CONTEXTS))
        oracle = oracle or found
        print(f"{line(label, found, oracle)} {cost} |", flush=True)

    for name in RIVALS:
        measure(name, name, {})
    for latent_dim in latents:
        for choice in (False, "auto"):
            options = {"latent_dim": latent_dim, "specific_variances": choice}
            measure(OURS, f"{latent_dim}, {choice}", options)


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("--families", nargs="+", default=NAMES, choices=[*families.SYNTHETIC])
    add("--seeds", nargs="+", type=int, default=[0])
    add("--latents", nargs="+", default=["1", "2", "auto"])
    args = parser.parse_args()
    latents = [int(k) if k.isdigit() else k for k in args.latents]
    warnings.simplefilter("ignore")
    with threadpool_limits(1):
        for family in args.families:
            for seed in args.seeds:
                run(family, seed, latents)


if __name__ == "__main__":
    main()
