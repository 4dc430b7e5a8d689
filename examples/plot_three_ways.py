"""
One model for all, one for each, or a family
============================================

Three ways to forecast sequences of one kind. *Pooled*: one system for all, which cannot adapt.
*Single-task*: one for each, from its own observations alone, which has too few of them.
*Multi-task*: one for each, out of a family learned from others. They are the same linear systems,
learned by the same algorithm; what differs is what a new sequence inherits.

Two families: sums of two damped sines, which are linear systems, and bouncing balls, which are not.
"""

import matplotlib.pyplot as plt

from mtds_sklearn import MTLDSRegressor, PooledLDS, SingleTaskLDS
from mtds_sklearn.datasets import make_bouncing_balls, make_oscillators
from mtds_sklearn.display import ContextCurveDisplay, ForecastDisplay

makers = {"two oscillators": (make_oscillators, 4), "bouncing balls": (make_bouncing_balls, 6)}
colors = {"pooled": "0.5", "single-task": "C1", "multi-task": "C0"}
contexts = (0, 10, 20, 40)

# %%
# For each family the three models are fitted to 40 sequences; then the first rows of 7 new ones
# are revealed and the rest is scored. The single-task model learns a new system from each prefix.

fitted, new, scores = {}, {}, {}
for family, (make, n_states) in makers.items():
    train, test = make(40, 80, random_state=0), make(7, 80, random_state=1)
    test.groups += 1000  # new sequences need labels that the training data do not use
    models = {
        "pooled": PooledLDS(n_states=n_states),
        "single-task": SingleTaskLDS(n_states=n_states, max_iter=2000, n_jobs=-1),
        "multi-task": MTLDSRegressor(n_states=n_states, latent_dim=4, max_iter=300, random_state=0),
    }
    for model in models.values():
        model.fit(train.X, train.y, groups=train.groups, times=train.times)
    fitted[family], new[family] = models, test

# %%
# Errors and calibration
# ----------------------
# With nothing known all three forecast the mean of the family. The pooled model stays there. The
# single-task model needs more rows than the slow oscillation has in a period before it is better
# than the pooled one, and its intervals do not know how little it knows. The family of oscillators
# gains with every row, and its 90 % intervals hold about 90 % of what follows. Of the balls it can
# say less: what their floor does no linear system does, so that its gain comes later, and its
# intervals are too narrow on the way.

figure, axes = plt.subplots(2, 2, figsize=(9, 6), sharex=True, layout="constrained")
for column, (family, models) in zip(axes.T, fitted.items(), strict=True):
    test = new[family]
    for ax, metric in zip(column, ("rmse", "coverage"), strict=True):
        display = ContextCurveDisplay.from_estimator(
            models, test.X, test.y, contexts, groups=test.groups, times=test.times, metric=metric,
            ax=ax, colors=colors,
        )  # fmt: skip
        scores[family, metric] = display.scores
    column[0].set(title=family, xlabel="", ylim=(0, None))
    column[1].set_ylim(0, 1.02)

handles, labels = axes[0, 0].get_legend_handles_labels()
figure.legend(handles, labels, loc="outside upper center", ncols=3, frameon=False)

print(f"{'rows known':40s}" + "".join(f"{c:8d}" for c in contexts))
for (family, metric), values in scores.items():
    for name, row in values.items():
        shown = "".join(f"{abs(value):8.2f}" for value in row)
        print(f"{family + ', ' + metric + ', ' + name:40s}{shown}")

# %%
# One sequence, three forecasts
# -----------------------------
# The same oscillation after 20 rows.

test = new["two oscillators"]
figure, axes = plt.subplots(1, 3, figsize=(10, 3), sharey=True, layout="constrained")
for ax, (name, model) in zip(axes, fitted["two oscillators"].items(), strict=True):
    ForecastDisplay.from_estimator(
        model, test.X, test.y, 20, groups=test.groups, times=test.times, sequences=[1003], ax=ax,
        color=colors[name],
    )  # fmt: skip
    ax.set(title=name, ylabel="y" if ax is axes[0] else "", ylim=(-2, 2))
handles, labels = axes[0].get_legend_handles_labels()
figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False)
plt.show()
