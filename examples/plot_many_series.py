"""
Many series in parallel
=======================

Learning and inference run over all sequences at once in compiled loops, so that hundreds of series
are no special case. What can be done side by side takes `n_jobs`: the starts of
:class:`~mtds_sklearn.MTLDSRegressor`, the sequences of :class:`~mtds_sklearn.SingleTaskLDS`, and
everything that scikit-learn repeats, such as the folds of a cross-validation. Results do not depend
on it, since all random numbers are drawn before the work is handed out.
"""

import time

import matplotlib.pyplot as plt
import numpy as np

from mtds_sklearn import MTLDSRegressor, SingleTaskLDS, mask_future
from mtds_sklearn.datasets import make_oscillators

seconds = {}


def timed(what, function, *arguments, **keywords):
    start = time.perf_counter()
    result = function(*arguments, **keywords)
    seconds[what] = time.perf_counter() - start
    print(f"{what:44s}{seconds[what]:6.1f} s")
    return result


# %%
# A family of 200 sequences is learned, then 500 new ones are forecast from their first 20 rows,
# every one by a weighted sample of its own posterior.

train = make_oscillators(200, 60, random_state=0)
rows = {"groups": train.groups, "times": train.times}
model = MTLDSRegressor(n_states=4, latent_dim=4, random_state=0)
timed("learn a family from 200 sequences", model.fit, train.X, train.y, **rows)

new = make_oscillators(500, 60, random_state=1)
new.groups += 1000
known = mask_future(new.y, new.groups, new.times, 20)
mean, std = timed(
    "forecast 500 new sequences", model.predict, new.X, groups=new.groups, times=new.times,
    y_context=known, return_std=True,
)  # fmt: skip
hidden = np.isnan(known)
errors = ((new.y - mean) / std)[hidden]
print(f"RMSE {np.sqrt(np.mean((new.y - mean)[hidden] ** 2)):.3f}, noise {new.noise_std}")
print(f"within one and two standard deviations: {np.mean(abs(errors) < 1):.3f}, "
      f"{np.mean(abs(errors) < 2):.3f}")  # fmt: skip

# %%
# The systems of 100 single sequences, with one job and with two. (The first use of a second job
# also starts a second process, which takes seconds.)

few = train.groups < 100
rows = {"groups": train.groups[few], "times": train.times[few]}
results = {}
for n_jobs in (1, 2):
    results[n_jobs] = timed(
        f"100 single systems, n_jobs={n_jobs}",
        SingleTaskLDS(n_states=4, max_iter=300, n_jobs=n_jobs).fit,
        train.X[few], train.y[few], **rows,
    ).predict(train.X[few], **rows)  # fmt: skip
np.testing.assert_array_equal(results[1], results[2])
print("same numbers")

# %%
# How the time of an inference grows with the number of sequences: no faster than they do.

sizes = (10, 50, 250, 500)
times = []
for size in sizes:
    own = new.groups < 1000 + size
    start = time.perf_counter()
    model.predict(new.X[own], groups=new.groups[own], times=new.times[own], y_context=known[own])
    times.append(time.perf_counter() - start)

figure, ax = plt.subplots(figsize=(5, 3.4), layout="constrained")
ax.loglog(sizes, times, "o-")
ax.set(xlabel="new sequences", ylabel="seconds to forecast 40 rows from 20")
ax.grid(which="major", color="0.9")
plt.show()
