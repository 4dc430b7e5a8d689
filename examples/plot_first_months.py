"""
Forecast a year from its first months
=====================================

Sea surface temperatures off the coast of Peru follow the seasons, and now and then El Niño or La
Niña comes in between. Each of the 61 years from 1950 to 2010 is one short sequence of 12 months:
too short to learn a dynamical system from, and yet no two years are alike. This is what
:class:`~mtds_sklearn.MTLDSRegressor` is for: it learns from the other years what a year is like
*and how years differ*, and tunes in to a new year month by month.

Whole years are held out, their first months are revealed, and the rest is forecast by three
models: one system for all years (pooled), a system for each year on its own (single-task), and a
family of systems (multi-task). The data come with statsmodels (``sm.datasets.elnino``; NOAA).
"""

import sys

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import statsmodels.api as sm
from sklearn.model_selection import GroupKFold, cross_validate

from mtds_sklearn import ForecastScorer, MTLDSRegressor, PooledLDS, SingleTaskLDS, mask_future

# %%
# One row is one time step. The row MultiIndex (sequence, time) says which year a row belongs to,
# and where; every estimator and scorer of this package reads it. There are no inputs: one column
# of zeros.

table = sm.datasets.elnino.load_pandas().data
table = table.set_axis(table["YEAR"].astype(int)).drop(columns="YEAR").set_axis(range(12), axis=1)
y = table.rename_axis(index="year", columns="month").stack()
X = pd.DataFrame({"no_input": 0.0}, index=y.index)
years = y.index.get_level_values("year")

# %%
# The sizes of the family are generous: what the evidence does not support is switched off. The
# calendar is the same every year, so the frequencies and damping times of the seasons are shared;
# what varies is the mean temperature and the strength and phase of each oscillation (its share of
# the state in January). Letting everything vary is almost as good.

models = {
    "pooled": PooledLDS(n_states=8),
    "single-task": SingleTaskLDS(n_states=2),
    "multi-task": MTLDSRegressor(
        n_states=8, latent_dim=6, varying=("offset", "x0"), max_iter=300, random_state=0
    ),
}

# %%
# A scorer reveals the first months of each held-out year and scores the rest. The splitter keeps
# years whole.

contexts = (0, 3, 6, 9)
metrics = {
    "rmse": "error (RMSE, degrees Celsius)",
    "nll": "log density (nats per month)",
    "coverage": "share inside the 90 % interval",
}
scoring = {f"{m} {c}": ForecastScorer(c, metric=m) for m in metrics for c in contexts}
folds = GroupKFold(4, shuffle=True, random_state=0)
results = {
    name: cross_validate(
        model, X, y, groups=years, cv=folds, scoring=scoring, n_jobs=-1,
        return_estimator=True, return_indices=True,
    )
    for name, model in models.items()
}  # fmt: skip


def curve(name, metric):
    """Score of a model against the number of months known; errors positive."""
    sign = -1 if metric == "rmse" else 1
    return [sign * results[name][f"test_{metric} {c}"].mean() for c in contexts]


print(f"{'months known':32s}" + "".join(f"{c:8d}" for c in contexts))
for metric, title in metrics.items():
    print(title)
    for name in models:
        print(f"  {name:30s}" + "".join(f"{value:8.2f}" for value in curve(name, metric)))

# %%
# With nothing known all three say the same: the season. Then the multi-task forecasts improve
# with every month. The pooled system cannot use what it is told, and a system learned from a few
# months alone explains them almost exactly, extrapolates wildly, and believes itself.
#
# The intervals of the family hold about what they promise. And since all years are complete,
# equally long and locked to one calendar, a Gaussian fitted to the 12 numbers of a year does as
# well as the family. What a family of systems adds is at home where that stops: unequal lengths,
# gaps, inputs, horizons beyond the training lengths.
#
# The figure shows two held-out years, each forecast by a model that never saw it: 1972, an El
# Niño, and 1988, which turned into La Niña. (Put 1997 there to see one of the strongest El Niños
# on record leave the bands of March.)


def held_out_model(name, year):
    """The fitted model of the fold that held this year out."""
    result = results[name]
    for model, test in zip(result["estimator"], result["indices"]["test"], strict=True):
        if year in years[test]:
            return model
    raise ValueError(f"no fold held {year} out")


def draw_forecast(ax, year, context):
    rows = years == year
    known = mask_future(y[rows], years[rows], None, context)
    model = held_out_model("multi-task", year)
    mean, band = model.predict(X[rows], y_context=known, quantiles=(0.025, 0.975))
    months = np.arange(1, 13)
    ahead = months > context
    pooled = held_out_model("pooled", year).predict(X[rows])
    ax.plot(months[~ahead], y[rows][~ahead], "ko", ms=4, label="known")
    ax.plot(months[ahead], y[rows][ahead], "ko", ms=4, mfc="white", label="to come")
    ax.plot(months[ahead], mean[ahead], color="C0", label="multi-task mean")
    ax.fill_between(
        months[ahead], *band[ahead].T, color="C0", alpha=0.25, lw=0, label="multi-task 95 % band"
    )
    ax.plot(months, pooled, color="0.5", ls="--", lw=1, label="pooled mean")
    ax.set(xlim=(0.5, 12.5), xticks=months[::3], xticklabels=["Jan", "Apr", "Jul", "Oct"])


figure = plt.figure(figsize=(10, 8.2), layout="constrained")
upper, lower = figure.subfigures(2, 1, height_ratios=(2, 1.15))
panels = upper.subplots(2, 4, sharex=True, sharey=True)
for row, year in zip(panels, (1972, 1988), strict=True):
    for ax, context in zip(row, contexts, strict=True):
        draw_forecast(ax, year, context)
    row[0].set_ylabel(f"{year}: sea surface, °C")
for ax, context in zip(panels[0], contexts, strict=True):
    ax.set_title(f"{context} months known", fontsize="medium")
handles, labels = panels[0, 0].get_legend_handles_labels()
upper.legend(handles, labels, loc="outside upper center", ncols=5, frameon=False)

errors, coverage = lower.subplots(1, 2)
for name, style in {"pooled": "0.5", "single-task": "C1", "multi-task": "C0"}.items():
    errors.plot(contexts, curve(name, "rmse"), "o-", color=style, label=name)
    coverage.plot(contexts, curve(name, "coverage"), "o-", color=style)
errors.set(yscale="log", yticks=[0.5, 1, 2, 4], yticklabels=["0.5", "1", "2", "4"])
errors.minorticks_off()
errors.set(xlabel="months known", ylabel="RMSE of the rest, °C")
errors.legend(frameon=False)
coverage.axhline(0.9, color="k", ls=":", lw=1)
coverage.set(xlabel="months known", ylabel="share inside 90 % interval", ylim=(0, 1.02))
for ax in (errors, coverage):
    ax.set_xticks(contexts)

# %%
# The figure goes to the file named on the command line, if there is one; else to the screen.

if len(sys.argv) > 1:
    figure.savefig(sys.argv[1], dpi=100)
    print(f"figure written to {sys.argv[1]}")
else:
    plt.show()
