"""
Patients under one drug: inputs, two outputs, gaps
==================================================

A drug is infused; blood pressure and an index of wakefulness respond. How fast and how strongly
differs from patient to patient. The records have unequal lengths and one value in ten is missing
(NaN). The infusion is an input: it is known in advance, since it is what one decides, so that the
forecast answers the question "what will this dose do to *this* patient?"

The patients are simulated (:func:`~mtds_sklearn.datasets.make_drug_response`): two compartments
and an effect site, eight numbers vary.
"""

import matplotlib.pyplot as plt
import numpy as np

from mtds_sklearn import ForecastScorer, MTLDSRegressor, PooledLDS, mask_future
from mtds_sklearn.datasets import make_drug_response
from mtds_sklearn.display import FamilyDisplay, LatentSpaceDisplay

train = make_drug_response(n_sequences=60, random_state=0)
test = make_drug_response(n_sequences=30, random_state=1)
groups = test.groups + 1000  # new patients, not those of the training data
lengths = np.bincount(train.groups)
print(
    f"{len(lengths)} training patients, {lengths.min()} to {lengths.max()} minutes, "
    f"{np.isnan(train.y).mean():.0%} of the values missing"
)

# %%
# `x0` does not vary: before the infusion there is no drug in anybody.

models = {
    "pooled": PooledLDS(n_states=4, initial_state="zero"),
    "multi-task": MTLDSRegressor(n_states=4, latent_dim=8, initial_state="zero", random_state=0),
}
for model in models.values():
    model.fit(train.X, train.y, groups=train.groups, times=train.times)

# %%
# The first minutes of new patients are revealed, the rest of their records is scored; both outputs
# count alike.

contexts = (0, 10, 20, 40)
rows = {"groups": groups, "times": test.times}
print(f"{'minutes known':32s}" + "".join(f"{c:8d}" for c in contexts))
for metric, title, sign in (
    ("rmse", "error (RMSE, noise included: >= 2)", -1),
    ("nll", "log density (nats per value)", 1),
    ("coverage", "share inside the 90 % interval", 1),
):
    print(title)
    for name, model in models.items():
        scores = [sign * ForecastScorer(c, metric)(model, test.X, test.y, **rows) for c in contexts]
        print(f"  {name:30s}" + "".join(f"{value:8.2f}" for value in scores))

# %%
# One new patient. The infusion is drawn below; what is forecast is the response to it.

patient = 1004
own = groups == patient
minutes = test.times[own]
figure, axes = plt.subplots(
    3, len(contexts), figsize=(11, 6.4), sharex=True, sharey="row", layout="constrained",
    height_ratios=(2, 2, 1),
)  # fmt: skip
for column, context in zip(axes.T, contexts, strict=True):
    known = mask_future(test.y[own], groups[own], minutes, context)
    mean, band = models["multi-task"].predict(
        test.X[own],
        groups=groups[own],
        times=minutes,
        y_context=known,
        quantiles=(0.025, 0.975),
    )
    ahead = minutes >= context
    for output, ax in enumerate(column[:2]):
        ax.plot(minutes, known[:, output], "ko", ms=3, label="known")
        later = np.where(ahead, test.y[own, output], np.nan)
        ax.plot(minutes, later, "o", ms=3, mfc="white", mec="0.6", label="to come")
        ax.plot(minutes[ahead], mean[ahead, output], color="C0", label="forecast")
        ax.fill_between(
            minutes[ahead], *band[ahead, output].T, color="C0", alpha=0.25, lw=0, label="95 % band"
        )
    column[0].set_title(f"{context} minutes known", fontsize="medium")
    column[2].step(minutes, test.X[own, 0], where="post", color="C3")
    column[2].set_xlabel("minutes")
names = ("blood pressure, mmHg", "wakefulness index", "infusion rate")
for ax, label in zip(axes[:, 0], names, strict=True):
    ax.set_ylabel(label)
figure.align_ylabels(axes[:, 0])
handles, labels = axes[0, 0].get_legend_handles_labels()
figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False)

# %%
# The family of patients
# ----------------------
# How blood pressure responds to one minute of infusion (right), and what changes along the two
# strongest directions of the family. The inputs are those of the patient above.

model = models["multi-task"]
FamilyDisplay.from_estimator(model, test.X[own], n_directions=2)

# %%
# Where the training patients lie in this plane, with ellipses that hold half of the posterior.
# The colour is something that the model was not told: the blood pressure of each before the drug.

LatentSpaceDisplay.from_estimator(
    model, values=train.parameters["offset"][:, 0], name="true blood pressure at rest, mmHg"
)
plt.show()
