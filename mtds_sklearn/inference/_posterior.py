"""`SequencePosterior`: what is known of one sequence, updated as its rows arrive."""

from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from scipy.special import logsumexp
from sklearn.utils import check_random_state

from mtds_sklearn import _kernels
