"""
Tune in to a new oscillator, one observation at a time
======================================================

Every sequence is the sum of two damped sines. Frequencies and half-lives differ from sequence to
sequence: four numbers that nobody observes. From 40 sequences the family is learned, that is, which
systems there are; then observations of a new sequence arrive one by one, and the forecast of
all the rest sharpens with each.
"""

import matplotlib.pyplot as plt
import numpy as np
from scipy.stats import norm

from mtds_sklearn import MTLDSRegressor, PooledLDS, mask_future
from mtds_sklearn.datasets import make_oscillators

train = make_oscillators(n_sequences=40, random_state=0)
model = MTLDSRegressor(n_states=8, latent_dim=6, random_state=0)
model.fit(train.X, train.y, groups=train.groups, times=train.times)

varying = [name for name, sd in zip(model.theta_names_, model.relevance_, strict=True) if sd > 0]
print(f"states found: {model.n_states_} of at most {model.n_states}")
print(f"noise: {model.noise_std_[0]:.3f} (true: {train.noise_std})")
print(f"what varies: {', '.join(varying)}")

# %%
# How good are the forecasts? On 50 new sequences, the log density of what follows the first
# observations, in nats per value. Nobody can beat the true system, which predicts the curve
# without its noise. Labels of new sequences must not be those of the training sequences:
# a known label stands for what was learned about that sequence.

test = make_oscillators(n_sequences=50, random_state=1)
groups = test.groups + 1000
pooled = PooledLDS(n_states=8).fit(train.X, train.y, groups=train.groups, times=train.times)
truth = norm.logpdf(test.y, test.mean, test.noise_std)

print(f"{'observations known':20s}{'pooled':>10s}{'multi-task':>12s}{'true system':>13s}")
for context in (0, 5, 10, 20, 40):
    known = mask_future(test.y, groups, test.times, context)
    rest = np.isnan(known)
    values = [
        each.forecast_log_density(test.X, test.y, groups=groups, times=test.times, y_context=known)
        for each in (pooled, model)
    ]
    a, b, c = (value[rest].mean() for value in (*values, truth))
    print(f"{context:<20d}{a:10.2f}{b:12.2f}{c:13.2f}")

# %%
# Online, a posterior is updated instead of inferred anew from a context. A
# :class:`~mtds_sklearn.SequencePosterior` is immutable: `update` returns the posterior after one
# more row (or several), `predict` forecasts the rows to come.

chosen = groups == 1003
u, y, curve = test.X[chosen], test.y[chosen], test.mean[chosen]
n_steps = len(y)

posterior = model.sequence_posterior(u[:1], y[:1], groups=groups[chosen][:1])[1003]
frames = {}
for t in range(1, 41):
    if t in (2, 5, 8, 12, 20, 40):
        frames[t] = posterior.predict(u[t:], quantiles=(0.025, 0.975))
    posterior = posterior.update(u[t], y[t])
print(posterior)

# %%
# One frame per moment: what is known, what the model expects, and the true curve that it never
# sees.

figure, axes = plt.subplots(2, 3, figsize=(10, 5.4), sharex=True, sharey=True, layout="constrained")
steps = np.arange(n_steps)
for ax, (t, (mean, band)) in zip(axes.flat, frames.items(), strict=True):
    ax.plot(steps[:t], y[:t], "ko", ms=3, label="observed")
    ax.plot(steps, curve, "k:", lw=1, label="true curve")
    ax.plot(steps[t:], mean, color="C0", label="forecast")
    ax.fill_between(steps[t:], *band.T, color="C0", alpha=0.25, lw=0, label="95 % band")
    ax.set_title(f"{t} observations", fontsize="medium")
for ax in axes[1]:
    ax.set_xlabel("time step")
for ax in axes[:, 0]:
    ax.set_ylabel("y")
handles, labels = axes[0, 0].get_legend_handles_labels()
figure.legend(handles, labels, loc="outside upper center", ncols=4, frameon=False)
plt.show()
