"""Messages of transforms, of the tools of model selection, of data sets and of displays."""

import numpy as np
from message_makers import (
    TIMES,
    family,
    pooled,
    rows,
    transformed,
    transformed_target,
    without_matplotlib,
)
from sklearn.linear_model import Ridge

from mtds_sklearn import ForecastScorer, PrefixSplit, mask_future, stack_sequences, unstack
from mtds_sklearn.datasets import make_oscillators
from mtds_sklearn.display import (
    ContextCurveDisplay,
    FamilyDisplay,
    ForecastDisplay,
    LatentSpaceDisplay,
    LowerBoundDisplay,
)

# What is done, the kind of the answer, and its text; <number> stands for any number.
MESSAGES = {
    "y_transform that is no transform": (
        lambda: transformed((np.log,)),
        ValueError,
        "PooledLDS: y_transform must be None, one of ('log', 'log1p', 'box-cox', 'yeo-johnson'), "
        "or two or three callables (f, inverse[, derivative]), got (<ufunc 'log'>,)",
    ),
    "y_transform outside its domain": (
        lambda: transformed("log", y=TIMES - 2.0),
        ValueError,
        "PooledLDS: y must be > 0, or NaN, with y_transform='log'; 12 of 48 observed values are "
        "not, the first is -2 in row 0",
    ),
    "f that is not elementwise": (
        lambda: transformed((lambda y: y / len(y), lambda x: x)),
        ValueError,
        "PooledLDS: f of y_transform must work elementwise, but f(1) is 0.0208333 among 48 "
        "values and 0.0416667 among half of them",
    ),
    "f that falls": (
        lambda: transformed((np.negative, np.negative)),
        ValueError,
        "PooledLDS: f of y_transform must increase, but f(1) = -1 and f(2) = -2",
    ),
    "an inverse that does not undo f": (
        lambda: transformed((np.log, np.log)),
        ValueError,
        "PooledLDS: the inverse of y_transform must undo f, but inverse(f(1)) = inverse(0) = -inf",
    ),
    "an inverse that ends too early": (
        lambda: transformed((lambda y: y**2, lambda x: np.sqrt(x))),
        ValueError,
        "PooledLDS: the inverse of y_transform must be finite and not fall from -188.099 to "
        "333.099, where forecasts may go (the range of f(y) in training, widened), but "
        "inverse(-188.099) = nan and inverse(-186.063) = nan",
    ),
    "a derivative that is none": (
        lambda: transformed((np.log, np.exp, np.exp)),
        ValueError,
        "PooledLDS: the third callable of y_transform must be the derivative of f, positive, but "
        "at 7 its logarithm is 7 and the slope's -1.94591",
    ),
    "context 1.0": (
        lambda: mask_future(np.zeros(4), None, None, 1.0),
        ValueError,
        "mask_future: context must be an integer >= 0 (rows) or a float strictly between 0 and 1 "
        "(share of the rows), got 1.0",
    ),
    "lists that do not match": (
        lambda: stack_sequences([[1.0, 2.0], [3.0]], [[1.0, 2.0], [3.0, 4.0]]),
        ValueError,
        "stack_sequences needs at least one sequence, and inputs and outputs of the same "
        "lengths; got 2 inputs of [2, 1] rows and 2 outputs of [2, 2] rows",
    ),
    "labels that do not match": (
        lambda: unstack(np.zeros(5), [0, 1]),
        ValueError,
        "unstack needs one label for each of the 5 rows, got 2",
    ),
    "an unknown metric": (
        lambda: ForecastScorer(3, "mse")(pooled(), **rows()),
        ValueError,
        "ForecastScorer: metric must be one of ('rmse', 'mae', 'r2', 'nll', 'crps', 'coverage'), "
        "got 'mse'",
    ),
    "nothing left to score": (
        lambda: ForecastScorer(12)(pooled(), **rows()),
        ValueError,
        "ForecastScorer: nothing is left to score with context=12: 0 of 48 rows lie after the "
        "context, and 48 of 48 values are observed",
    ),
    "a regressor without deviation": (
        lambda: ForecastScorer(3, "crps")(Ridge().fit(rows()["X"], rows()["y"]), **rows()),
        ValueError,
        "ForecastScorer needs an estimator whose predict takes return_std for this metric, got "
        "Ridge",
    ),
    "a transformed target": (
        lambda: ForecastScorer(3)(transformed_target(), **rows()),
        ValueError,
        "ForecastScorer: TransformedTargetRegressor transforms y but hands y_context on as it "
        "is, so that LinearRegression would take the context for something else; use its "
        "y_transform, transform y before the search, or score with context=0",
    ),
    "a fraction of one": (
        lambda: next(PrefixSplit((1,)).split(np.zeros((4, 1)))),
        ValueError,
        "PrefixSplit: fractions must lie between 0 and 1, got 1",
    ),
    "a fraction of no row": (
        lambda: next(PrefixSplit((0.1,)).split(np.zeros((4, 1)))),
        ValueError,
        "PrefixSplit: a fraction of 0.1 leaves no row of 4 to train on",
    ),
    "noise that is no number": (
        lambda: make_oscillators(noise_std=np.nan),
        ValueError,
        "noise_std == nan, must be >= 0 and < inf.",
    ),
    "no matplotlib": (
        lambda: without_matplotlib(),
        ImportError,
        "LowerBoundDisplay needs matplotlib, which cannot be imported; python -m pip install "
        "'mtds-sklearn[plot]' installs it",
    ),
    "curves without results": (
        lambda: ContextCurveDisplay.from_cv_results({"a": {"test_score": [1.0]}}),
        ValueError,
        "ContextCurveDisplay needs results of cross_validate with the same entries "
        "test_context_... for every model, got [[]]",
    ),
    "curves of another length": (
        lambda: ContextCurveDisplay((0, 5), {"a": [1.0]}),
        ValueError,
        "ContextCurveDisplay: 'a' needs a score for each of the 2 contexts, got 1",
    ),
    "curves of an unknown metric": (
        lambda: ContextCurveDisplay((0, 5), {"a": [1.0, 2.0]}, "mse"),
        ValueError,
        "ContextCurveDisplay: metric must be one of ('rmse', 'mae', 'crps', 'nll', 'r2', "
        "'coverage'), got 'mse'",
    ),
    "too few axes": (
        lambda: ContextCurveDisplay((0, 5), {"a": [1.0, 2.0]}).plot(np.empty(3, dtype=object)),
        ValueError,
        "ContextCurveDisplay: ax needs 1 Axes (1 rows of 1), got 3",
    ),
    "what has no family": (
        lambda: FamilyDisplay.from_estimator(Ridge(), rows()["X"]),
        ValueError,
        "FamilyDisplay shows a family and needs a fitted MTLDSRegressor, got Ridge() without the "
        "attribute task_map_",
    ),
    "what has no bound": (
        lambda: LowerBoundDisplay.from_estimator(Ridge()),
        ValueError,
        "LowerBoundDisplay needs a fitted MTLDSRegressor or PooledLDS, got Ridge() without the "
        "attribute stages_",
    ),
    "sequences that are not there": (
        lambda: ForecastDisplay.from_estimator(pooled(), **rows(), context=3, sequences=[7]),
        ValueError,
        "ForecastDisplay: sequences needs labels among those of the 4 sequences of the data, got "
        "[7]",
    ),
    "bands of another shape": (
        lambda: ForecastDisplay(np.zeros((6, 2)), mean=np.zeros((6, 2)), band=np.zeros((6, 2))),
        ValueError,
        "ForecastDisplay: band needs shape (6, 2, 2), got (6, 2)",
    ),
    "a direction too many": (
        lambda: FamilyDisplay.from_estimator(family(), rows()["X"], n_directions=2),
        ValueError,
        "FamilyDisplay: n_directions must lie between 1 and 1, got 2",
    ),
    "a level of one": (
        lambda: LatentSpaceDisplay(np.zeros((3, 2)), np.zeros((3, 2, 2)), level=1.0),
        ValueError,
        "LatentSpaceDisplay: level must lie in (0, 1), got 1.0",
    ),
    "values of other sequences": (
        lambda: LatentSpaceDisplay(np.zeros((3, 2)), np.zeros((3, 2, 2)), values=[1.0]),
        ValueError,
        "LatentSpaceDisplay: values needs one number for each of the 3 sequences, got 1",
    ),
    "coordinates that are not there": (
        lambda: LatentSpaceDisplay.from_estimator(family(), coordinates=(0, 1)),
        ValueError,
        "LatentSpaceDisplay: coordinates needs two different numbers from 0 to 0, got (0, 1)",
    ),
}
