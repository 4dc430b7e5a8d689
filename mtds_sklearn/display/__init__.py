"""Figures of forecasts, families and learning, in the manner of scikit-learn's displays.

A display is made by a class method (`from_estimator`, `from_predictions`), which computes what is
to be shown and draws it; `plot` draws it again, elsewhere or in another way. What was drawn is kept
in attributes with a trailing underscore. Only drawing needs matplotlib.
"""

from mtds_sklearn.display._context_curve import ContextCurveDisplay
from mtds_sklearn.display._family import FamilyDisplay
from mtds_sklearn.display._forecast import ForecastDisplay
from mtds_sklearn.display._latent_space import LatentSpaceDisplay
from mtds_sklearn.display._lower_bound import LowerBoundDisplay
from mtds_sklearn.display._relevance import RelevanceDisplay

__all__ = [
    "ContextCurveDisplay",
    "FamilyDisplay",
    "ForecastDisplay",
    "LatentSpaceDisplay",
    "LowerBoundDisplay",
    "RelevanceDisplay",
]
