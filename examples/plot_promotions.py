"""
Stores and their promotions
===========================

Daily log sales of stores: each has its own level, its own weekly profile and its own response to a
promotion, part of which comes at once and part of which lingers for days. Promotions are planned,
so that they are known in advance: an input. For a store that has just opened the questions are what
it will sell, and what a promotion will bring *there*.

The stores are simulated (:func:`~mtds_sklearn.datasets.make_stores`), so that the answers are
known.
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn.linear_model import Ridge

from mtds_sklearn import ForecastScorer, MTLDSRegressor, PooledLDS, RowWise, mask_future
from mtds_sklearn.datasets import make_stores
from mtds_sklearn.display import ForecastDisplay, RelevanceDisplay

train, test = make_stores(60, random_state=0), make_stores(30, random_state=1)
test.groups += 1000  # stores that the training data do not know

# %%
# What one would do without a family: one dynamical system for all stores, or a regression of sales
# on weekday and promotion. The calendar is the same for all stores, so that the poles are shared;
# what may vary are level, profile (the initial state) and the response to promotions.

models = {
    "pooled": PooledLDS(n_states=8),
    "multi-task": MTLDSRegressor(
        n_states=8, latent_dim=10, varying=("B", "D", "offset", "x0"), max_iter=300, random_state=0
    ),
}
for model in models.values():
    model.fit(train.X, train.y, groups=train.groups, times=train.times)


def with_weekdays(data):
    return np.column_stack([data.X, np.eye(7)[data.times % 7]])


regression = RowWise(Ridge()).fit(with_weekdays(train), train.y)

contexts = (0, 7, 14, 28)
rows = {"groups": test.groups, "times": test.times}
print(f"{'error of log sales (RMSE), days known':42s}" + "".join(f"{c:8d}" for c in contexts))
for name, model, X in (
    ("weekday and promotion (Ridge)", regression, with_weekdays(test)),
    ("pooled", models["pooled"], test.X),
    ("multi-task", models["multi-task"], test.X),
):
    errors = [-ForecastScorer(c)(model, X, test.y, **rows) for c in contexts]
    print(f"  {name:40s}" + "".join(f"{error:8.3f}" for error in errors))
print(f"noise of the data: {train.noise_std}, found: {models['multi-task'].noise_std_[0]:.3f}")

# %%
# Three stores, two weeks after they opened. The marks at the bottom are days with a promotion.

chosen = [1001, 1007, 1016]
figure, axes = plt.subplots(3, 1, figsize=(9, 6.5), sharex=True, layout="constrained")
ForecastDisplay.from_estimator(
    models["multi-task"], test.X, test.y, 14, sequences=chosen, ax=axes, **rows
)
for ax, store in zip(axes, chosen, strict=True):
    days = np.flatnonzero(test.X[test.groups == store, 0])
    bottom = ax.get_xaxis_transform()  # x in days, y in heights of the axes
    ax.vlines(days, 0, 0.06, color="C3", lw=3, transform=bottom, label="promotion")
    ax.set(xlabel="day" if ax is axes[-1] else "", ylabel="log sales", title=f"store {store}")
handles, labels = axes[0].get_legend_handles_labels()
figure.legend(handles, labels, loc="outside upper center", ncols=5, frameon=False)

# %%
# What does a promotion bring?
# ----------------------------
# For each new store a promotion of four days is planned for day 28, and its forecast is
# compared with that of the same days without. The extra sales over the next two weeks are
# known for simulated stores. The estimate is made from four weeks of sales, in which there were
# some promotions or none.


def forecast_with(promotion):
    """Forecast of days 28 to 41 with a given plan for these days, (n_stores, 14)."""
    X = test.X.reshape(30, -1).copy()
    X[:, 28:42] = promotion
    known = mask_future(test.y, test.groups, test.times, 28)
    mean = models["multi-task"].predict(X.reshape(-1, 1), y_context=known, **rows)
    return mean.reshape(30, -1)[:, 28:42]


plan = np.r_[np.ones(4), np.zeros(10)]
extra = (forecast_with(plan) - forecast_with(0.0)).sum(axis=1)
at_once, lingering = test.parameters["D"][:, 0, 0], test.parameters["B"][:, 6, 0]
carry_over = test.parameters["carry_over"][:, None]
days = np.arange(14)
lift = sum(
    np.where(days >= start, carry_over ** np.maximum(days - start, 0), 0) for start in range(4)
)
true_extra = 4 * at_once + lingering * lift.sum(axis=1)

figure, ax = plt.subplots(figsize=(4.6, 4.2), layout="constrained")
promoted = test.X.reshape(30, -1)[:, :28].sum(axis=1)
points = ax.scatter(true_extra, extra, c=promoted, cmap="viridis")
ax.axline((1, 1), slope=1, color="0.6", lw=1)
ax.set(xlabel="true extra log sales in two weeks", ylabel="forecast extra log sales")
figure.colorbar(points, label="days with a promotion among the 28 known")

# %%
# What differs between stores, as learned: level, weekly profile, and the response to a promotion.

RelevanceDisplay.from_estimator(models["multi-task"])
plt.show()
