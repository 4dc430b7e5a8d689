"""
Learn from sequences as they come
=================================

Machines report one run after the other, and old runs are not kept. `partial_fit` takes whole
sequences in batches and keeps sums instead of data: the family gets better with every batch, as if
it had been learned from all of them at once.
"""

import pickle

import matplotlib.pyplot as plt
import numpy as np

from mtds_sklearn import ForecastScorer, MTLDSRegressor
from mtds_sklearn.datasets import make_oscillators
from mtds_sklearn.display import FamilyDisplay

stream = make_oscillators(200, 60, random_state=0)
test = make_oscillators(40, 60, random_state=1)
test.groups += 1000

# %%
# Ten batches of 20 sequences. After each, the forecasts of 40 other sequences are scored.

scorer = ForecastScorer(15, metric="nll")


def score(model):
    return scorer(model, test.X, test.y, groups=test.groups, times=test.times)


model = MTLDSRegressor(n_states=6, latent_dim=5, random_state=0)
seen, scores = [], []
for batch in np.split(np.arange(200), 10):
    rows = np.isin(stream.groups, batch)
    model.partial_fit(
        stream.X[rows], stream.y[rows], groups=stream.groups[rows], times=stream.times[rows]
    )
    seen.append(model.n_sequences_seen_)
    scores.append(score(model))
    print(
        f"{seen[-1]:4d} sequences: {model.n_states_} states, log density {scores[-1]:.3f}, "
        f"pickle {len(pickle.dumps(model)) / 1024:.0f} kB"
    )

# %%
# What is kept of single sequences are the posteriors of the latest 400, so that the estimator stops
# growing there. For comparison: one fit to the first batch, and one to everything at once.

first = stream.groups < 20
batch_scores = {}
for name, rows in (("fit to the first 20", first), ("fit to all 200", np.full(first.shape, True))):
    fitted = MTLDSRegressor(n_states=6, latent_dim=5, random_state=0)
    fitted.fit(stream.X[rows], stream.y[rows], groups=stream.groups[rows], times=stream.times[rows])
    batch_scores[name] = score(fitted)
    print(f"{name}: log density {batch_scores[name]:.3f}")

figure, ax = plt.subplots(figsize=(6, 3.6), layout="constrained")
ax.plot(seen, scores, "o-", label="partial_fit")
for (name, value), style in zip(batch_scores.items(), (":", "--"), strict=True):
    ax.axhline(value, color="k", ls=style, lw=1, label=name)
ax.set(xlabel="sequences seen", ylabel="log density after 15 rows, nats per value")
ax.legend(frameon=False)

# %%
# The family in the end.

FamilyDisplay.from_estimator(model, np.zeros((60, 1)), n_directions=2)
plt.show()
