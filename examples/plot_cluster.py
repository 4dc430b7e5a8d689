"""
A fit on a cluster
==================

Learning asks the same of every sequence, and what it takes from them are sums. So sequences are cut
into chunks, and the chunks can be worked on wherever joblib sends them: threads and processes
of this machine (`n_jobs`), or the workers of a Dask cluster. There the data go out once and stay
where they are, with what is learned of each sequence; what travels in an iteration is the family
and sums. The numbers are the same, whoever computes them.

The cluster of this example is a light one, two workers in this very process. With a real one,
`Client("scheduler-address:8786")` takes its place and nothing else changes. A cluster pays when an
iteration takes seconds: each one sends messages to and fro three or four times.
"""

import time

import joblib
import matplotlib.pyplot as plt
import numpy as np

from mtds_sklearn import MTLDSRegressor
from mtds_sklearn.datasets import make_oscillators

try:
    from distributed import Client, LocalCluster
except ImportError:
    LocalCluster = None
    print('Without Dask everything stays in this process: pip install "dask[distributed]"')

# %%
# 600 sequences, three chunks. A fit in this process first.

data = make_oscillators(600, 30, n_oscillators=1, random_state=0)
model = MTLDSRegressor(
    n_states=2, latent_dim=2, n_init=1, disturbance="none", max_iter=20, tol=1e-3, random_state=0
)


def learn(where):
    start = time.perf_counter()
    model.fit(data.X, data.y, groups=data.groups, times=data.times)
    print(f"{where}: {time.perf_counter() - start:.1f} s, noise {model.noise_std_[0]:.6f}")
    return model.posterior_mean_


here = learn("in this process")

# %%
# The same on two workers.

there = here
if LocalCluster is not None:
    with (
        LocalCluster(
            n_workers=2, threads_per_worker=1, processes=False, dashboard_address=None
        ) as cluster,
        Client(cluster),
        joblib.parallel_config(backend="dask"),
    ):
        there = learn("on two workers")
    print("same numbers:", np.array_equal(here, there))

# %%
# What is left of each sequence: two latents.

fig, ax = plt.subplots()
ax.plot(*here.T, "o", markersize=5, markerfacecolor="none", label="in this process")
ax.plot(*there.T, ".", markersize=2, label="on two workers")
ax.set(xlabel="z[0]", ylabel="z[1]", title="600 sequences, two latents each")
ax.legend()
plt.show()
