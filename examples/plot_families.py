"""
What a family knows: samples, interpolation, directions
=======================================================

To forecast a sequence from three of its observations one has to know which sequences there are.
"Any stable linear system" is a weak answer; "what these 60 sequences have in common" is a strong
one. Here two families are learned, bouncing balls and sums of two damped sines, and asked what
they know: by samples, by walking from one sequence to another, and direction by direction.
"""

import matplotlib.pyplot as plt
import numpy as np

from mtds_sklearn import MTLDSRegressor
from mtds_sklearn.datasets import make_bouncing_balls, make_oscillators
from mtds_sklearn.display import FamilyDisplay, LowerBoundDisplay, RelevanceDisplay

families = {
    "bouncing balls": make_bouncing_balls(60, 60, random_state=0),
    "two oscillators": make_oscillators(60, 60, random_state=0),
}
models = {
    "bouncing balls": MTLDSRegressor(n_states=6, latent_dim=4, random_state=0),
    "two oscillators": MTLDSRegressor(n_states=4, latent_dim=4, random_state=0),
}
for name, data in families.items():
    models[name].fit(data.X, data.y, groups=data.groups, times=data.times)
    print(f"{name}: {models[name].n_states_} states, noise {models[name].noise_std_[0]:.3f}")

# %%
# A ball that bounces is no linear system: of speed and height the floor makes a kink. The family
# learns what sums of damped oscillations can say of it, and takes the kinks for noise (its noise is
# larger than the true 0.05). The oscillators are linear, and their noise is found.
#
# Weak against learned inductive bias
# -----------------------------------
# On the left five sequences of each family. In the middle five draws of a broad prior: systems with
# as many states, whose poles are uniform over the unit disk. On the right five new members of the
# learned family. What one expects of a sequence before having seen any of it, and after a handful
# of observations, is the difference between the middle and the right.


def broad_prior(rng, data, n_states, n_sequences):
    """Systems with uniform stable poles and normal amplitudes, in the units of the data."""
    t = np.arange(60)
    radius = np.sqrt(rng.uniform(size=(n_sequences, n_states // 2, 1)))
    phase = rng.uniform(0, np.pi, radius.shape) * t
    in_phase, quadrature = rng.normal(size=(2, *radius.shape))
    y = radius**t * (in_phase * np.cos(phase) + quadrature * np.sin(phase))
    return np.mean(data.y) + np.std(data.y) * y.sum(axis=1) / np.sqrt(n_states / 2)


no_input = np.zeros((60, 1))
figure, axes = plt.subplots(2, 3, figsize=(10, 5), sharex=True, sharey="row", layout="constrained")
for row, (name, data) in zip(axes, families.items(), strict=True):
    model = models[name]
    sampled, _ = model.sample_sequences(no_input, 5, random_state=2)
    broad = broad_prior(np.random.default_rng(0), data, model.n_states_, 5)
    for ax, curves in zip(row, (data.y.reshape(-1, 60)[:5], broad, sampled), strict=True):
        ax.plot(curves.T, lw=1)
    row[0].set_ylabel(name)
for ax, title in zip(
    axes[0], ("training data", "a broad prior", "the learned family"), strict=True
):
    ax.set_title(title, fontsize="medium")
for ax in axes[1]:
    ax.set_xlabel("time step")

# %%
# Interpolation along the manifold
# --------------------------------
# The latents of two training sequences, and the members of the family on the straight line between
# them: every one is a sequence that could have been in the data. The average of the two curves
# could not: the average of two oscillations of different frequencies beats.

frequency = families["two oscillators"].parameters["frequency"][:, 0]
pairs = {"bouncing balls": (0, 3), "two oscillators": (np.argmin(frequency), np.argmax(frequency))}
share = np.linspace(0, 1, 7)[:, None]
colors = plt.colormaps["viridis"](0.9 * share[:, 0])
figure, axes = plt.subplots(2, 2, figsize=(9, 5), sharex=True, sharey="row", layout="constrained")
for row, (name, (a, b)) in zip(axes, pairs.items(), strict=True):
    z = models[name].posterior_mean_
    members, _ = models[name].sample_sequences(no_input, z=(1 - share) * z[a] + share * z[b])
    averages = (1 - share) * members[0] + share * members[-1]
    for ax, curves in zip(row, (members, averages), strict=True):
        for curve, color, s in zip(curves, colors, share[:, 0], strict=True):
            ax.plot(curve, color=color, lw=1.2, label=f"{100 * s:.0f} %")
    row[0].set_ylabel(name)
axes[0, 0].set_title("between their latents", fontsize="medium")
axes[0, 1].set_title("between their curves", fontsize="medium")
for ax in axes[1]:
    ax.set_xlabel("time step")
handles, labels = axes[0, 0].get_legend_handles_labels()
figure.legend(
    handles, labels, loc="outside upper center", ncols=7, frameon=False,
    title="share of the second sequence",
)  # fmt: skip

# %%
# Directions of the family
# ------------------------
# :class:`~mtds_sklearn.display.FamilyDisplay` moves along one latent direction at a time and shows
# what happens to the outputs and to the poles. The oscillators were drawn with two frequencies
# and two half-lives, independent of each other; nobody told the model, and these four are what it
# finds.

FamilyDisplay.from_estimator(models["two oscillators"], no_input, n_directions=4)

# %%
# Which parameters vary over the family, and which the evidence has switched off: the initial
# amplitudes are the same in all sequences.

RelevanceDisplay.from_estimator(models["two oscillators"])

# %%
# And how all this was learned: first without any state, then block by block. A block is kept if
# the evidence rises.

LowerBoundDisplay.from_estimator(models["two oscillators"])
plt.show()
