"""
One search over families, pooled and single systems, and regressions
====================================================================

All models of sequences here have the signatures of scikit-learn, and :class:`~mtds_sklearn.RowWise`
puts any of its regressors behind the same ones. So one `GridSearchCV` can choose among all of
them. Two things make it a fair choice: folds that keep sequences whole (`GroupKFold`), and a scorer
that reveals the first rows of each held-out sequence and scores the rest
(:class:`~mtds_sklearn.ForecastScorer`).
"""

import matplotlib.pyplot as plt
import numpy as np
from sklearn import config_context
from sklearn.linear_model import Ridge
from sklearn.model_selection import GridSearchCV, GroupKFold
from sklearn.pipeline import Pipeline

from mtds_sklearn import MTLDSRegressor, PooledLDS, RowWise, SingleTaskLDS, forecast_scorers
from mtds_sklearn.datasets import make_drug_response
from mtds_sklearn.display import ContextCurveDisplay

data = make_drug_response(30, 60, random_state=0)

# %%
# The grid swaps the last step of a pipeline. With metadata routing switched on, `groups` and
# `times` reach splitter, estimators and scorers by themselves. One scorer for each context;
# the one after 10 revealed rows decides.

contexts = (0, 2, 5, 10, 20)
pipeline = Pipeline([("model", PooledLDS())])
grid = [
    {
        "model": [MTLDSRegressor(n_states=3, initial_state="zero", max_iter=300, random_state=0)],
        "model__latent_dim": [1, 3, 6],
    },
    {"model": [PooledLDS(n_states=3, initial_state="zero")]},
    {"model": [SingleTaskLDS(n_states=3, initial_state="zero", max_iter=300)]},
    {"model": [RowWise(Ridge())], "model__estimator__alpha": [0.1, 10.0]},
]
with config_context(enable_metadata_routing=True):
    search = GridSearchCV(
        pipeline, grid, scoring=forecast_scorers(contexts), refit="context_10",
        cv=GroupKFold(3), n_jobs=-1,
    )  # fmt: skip
    search.fit(data.X, data.y, groups=data.groups, times=data.times)

# %%
# The ranking, by the error after ten rows.


def title(parameters):
    model = parameters["model"]
    inner = f"({model.estimator})" if isinstance(model, RowWise) else ""
    rest = {name.split("__")[-1]: v for name, v in parameters.items() if name != "model"}
    return type(model).__name__ + inner + "".join(f", {name}={v}" for name, v in rest.items())


results = search.cv_results_
for i in np.argsort(results["rank_test_context_10"]):
    errors = "".join(f"{-results[f'mean_test_context_{c}'][i]:8.3f}" for c in contexts)
    print(f"{title(results['params'][i]):44s}{errors}")
print("chosen:", title(search.best_params_))

# %%
# The whole curves, the best of each kind. With nothing known all systems look alike, so that a
# score without context could not have told them apart. A regression on the infusion rate of the
# minute knows nothing of what was infused before.

scores = {}
for i in np.argsort(results["rank_test_context_10"]):
    kind = type(results["params"][i]["model"]).__name__
    folds = [[results[f"split{f}_test_context_{c}"][i] for f in range(3)] for c in contexts]
    scores.setdefault(kind, folds)
ContextCurveDisplay(contexts, scores).plot()
plt.show()
