"""Mistakes of users, small enough to be made by the dozen, for the tables of messages."""

import pickle
import sys
import warnings
from functools import cache
from unittest.mock import patch

import numpy as np
import pandas as pd
from sklearn.compose import TransformedTargetRegressor
from sklearn.linear_model import LinearRegression
from sklearn.preprocessing import StandardScaler
from toy_lds import make_toy

from mtds_sklearn import MTLDSRegressor, PooledLDS, SingleTaskLDS
from mtds_sklearn.display import LowerBoundDisplay
from mtds_sklearn.estimators._known_family import warn_thin

ROWS = np.arange(48)
TIMES = np.tile(np.arange(12), 4)


def rows() -> dict:
    """Four sequences of twelve rows, two inputs and one output."""
    X, y, groups, times = make_toy(4, 12)
    return {"X": X, "y": y, "groups": groups, "times": times}


def known_rows() -> dict:
    return {name: values for name, values in rows().items() if name != "y"}


def with_index(*levels: str) -> pd.DataFrame:
    """Inputs whose row index has these levels: patients 1 to 4, minutes 0 to 11."""
    values = {"patient": [f"p{g}" for g in rows()["groups"]], "minute": TIMES, "time": TIMES}
    index = pd.MultiIndex.from_arrays([values[name] for name in levels], names=levels)
    return pd.DataFrame(rows()["X"], columns=["dose", "weight"], index=index)


@cache
def pooled() -> PooledLDS:
    return PooledLDS(1).fit(**rows())


@cache
def single() -> SingleTaskLDS:
    return SingleTaskLDS(1, unseen="raise").fit(**rows())


@cache
def family() -> MTLDSRegressor:
    return MTLDSRegressor(
        1, 1, n_init=1, disturbance="none", specific_variances=False, random_state=0
    ).fit(**rows())


def posterior():
    return family().sequence_posterior(**rows())[2]


@cache
def named_posterior():
    X = with_index("patient", "minute")
    model = MTLDSRegressor(1, 1, n_init=1, disturbance="none", random_state=0).fit(X, rows()["y"])
    return model.sequence_posterior(X, rows()["y"])["p2"]


def swapped_inputs() -> pd.DataFrame:
    return with_index("patient", "minute").iloc[:2][["weight", "dose"]]


def reversed_outputs() -> pd.Series:
    return pd.Series(rows()["y"], index=with_index("patient", "minute").index)[::-1]


def copied(model):
    return pickle.loads(pickle.dumps(model))


def fit(**arguments):
    return PooledLDS(1).fit(**(rows() | arguments))


def predict(**arguments):
    return pooled().predict(**(known_rows() | arguments))


def warm(n_states=1, **arguments):
    model = copied(pooled()).set_params(warm_start=True, n_states=n_states)
    return model.fit(**(rows() | arguments))


def swapped_outputs():
    y = pd.DataFrame({"pressure": rows()["y"], "index": rows()["y"]})
    model = fit(y=y)
    return model.predict(**known_rows(), y_context=y[["index", "pressure"]])


def inputs_begin_to_move():
    X = rows()["X"].copy()
    X[:, 1] = 0.0
    model = fit(X=X)
    X[ROWS % 8 == 0, 1] = 1.0
    return model.partial_fit(**(rows() | {"X": X, "groups": rows()["groups"] + 10}))


def strange_sequences():
    y = 5.0 * rows()["y"][::-1]  # not what these inputs do
    more = rows() | {"y": y, "groups": rows()["groups"] + 10}
    return copied(family()).partial_fit(**more)


def thin_posterior():
    known = family()._known_family()
    warn_thin(known, ["p1", "p2", "p3"], np.array([2000.0, 31.4, 99.4]))


def transformed(y_transform, y=None):
    y = 1.0 + TIMES if y is None else y
    return PooledLDS(1, y_transform=y_transform).fit(**(rows() | {"y": y}))


def transformed_target():
    model = TransformedTargetRegressor(LinearRegression(), transformer=StandardScaler())
    return model.fit(rows()["X"], rows()["y"])


def without_matplotlib():
    with patch.dict(sys.modules, {"matplotlib": None, "matplotlib.pyplot": None}):
        LowerBoundDisplay.from_estimator(family())


def said(act) -> tuple[type, str]:
    """What an act is answered: the kind and the text of its error, or of its first warning."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        try:
            act()
        except Exception as error:
            return type(error), str(error)
    assert caught, "nothing was said"
    return caught[0].category, str(caught[0].message)
