"""Coverage of forecast intervals on held-out sequences of every synthetic family.

The last family, bouncing balls, no linear system represents.

    python benchmarks/calibration.py --seeds 0 1
"""

import argparse
import datetime

import numpy as np

import mtds_sklearn
from mtds_sklearn import MTLDSRegressor, PooledLDS, mask_future
from mtds_sklearn import datasets as families

CASES = {
    "one oscillator": (families.make_oscillators, {"n_oscillators": 1}, (2, 2)),
    "two oscillators": (families.make_oscillators, {"n_oscillators": 2}, (4, 4)),
    "input-driven": (families.make_input_driven, {}, (4, 6)),
    "drug response": (families.make_drug_response, {}, (8, 8)),
    "stores": (families.make_stores, {}, (10, 10)),
    "bouncing balls": (families.make_bouncing_balls, {}, (6, 4)),
}
CONTEXTS = (0, 5, 10, 20, 40)
LEVELS = (0.025, 0.05, 0.25, 0.75, 0.95, 0.975)


def measure(model, new, context: int) -> list[float]:
    """Shares inside the 50, 90 and 95 % intervals, negative log density, error in std of y."""
    known = mask_future(new.y, new.groups, new.times, context)
    rows = {"groups": new.groups + 100_000, "times": new.times, "y_context": known}
    mean, q = model.predict(new.X, quantiles=LEVELS, **rows)
    log_density = model.forecast_log_density(new.X, new.y, **rows)
    hidden = np.isnan(known) & np.isfinite(new.y)
    inside = [np.mean(((new.y > q[..., j]) & (new.y < q[..., -1 - j]))[hidden]) for j in (2, 1, 0)]
    error = np.sqrt(np.nanmean((((new.y - mean) / np.nanstd(new.y, axis=0)) ** 2)[hidden]))
    return [*inside, -np.mean(log_density[hidden]), error]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--seeds", type=int, nargs="+", default=[0])
    parser.add_argument("--families", nargs="+", default=list(CASES))
    args = parser.parse_args()
    print(f"{datetime.date.today()}, mtds_sklearn {mtds_sklearn.__version__}, seeds {args.seeds}\n")
    print("| family | model | known | in 50 % | in 90 % | in 95 % | -log density | error |")
    print("| :--- | :--- | ---: | ---: | ---: | ---: | ---: | ---: |")
    for name in args.families:
        make, options, (n_states, latent_dim) = CASES[name]
        results = {}
        for seed in args.seeds:
            train = make(random_state=seed, **options)
            new = make(random_state=10_000 + seed, **options)
            models = {
                "multi-task": MTLDSRegressor(n_states, latent_dim, random_state=0),
                "pooled": PooledLDS(n_states),
            }
            for kind, model in models.items():
                model.fit(train.X, train.y, groups=train.groups, times=train.times)
                for context in CONTEXTS:
                    cells = measure(model, new, context)
                    results.setdefault((kind, context), []).append(cells)
        for (kind, context), cells in results.items():
            shown = " | ".join(f"{cell:.3f}" for cell in np.mean(cells, axis=0))
            print(f"| {name} | {kind} | {context} | {shown} |", flush=True)


if __name__ == "__main__":
    main()
