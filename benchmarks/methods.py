"""The methods of the comparison by name, and what their cached results depend on."""

import hashlib
from collections.abc import Callable
from pathlib import Path

from rivals.curves import GaussianCurves, NearestCurves
from rivals.mixed_model import MixedModel
from rivals.own import Estimator

import mtds_sklearn

HERE = Path(__file__).parent
OURS = "MTLDSRegressor"


class SingleTask(Estimator):
    """It cannot forecast one step ahead: it would have to learn anew after every row."""

    one_step = False


def makers(seed: int, options: dict) -> dict[str, Callable]:
    """Method name -> function that makes it unfitted; `options` go to `MTLDSRegressor`."""
    return {
        OURS: lambda: Estimator(OURS, **({"random_state": seed} | options)),
        "PooledLDS": lambda: Estimator("PooledLDS"),
        "SingleTaskLDS": lambda: SingleTask("SingleTaskLDS"),
        "mixed model": MixedModel,
        "Gaussian": GaussianCurves,
        "nearest": NearestCurves,
    }


def fingerprint(method: str) -> str:
    """Digest of the source that a method's results depend on, the families included."""
    own = ("MTLDSRegressor", "PooledLDS", "SingleTaskLDS")
    sources = [*HERE.glob("*families.py"), HERE / "scoring.py", HERE / "sequences.py"]
    if method in own:
        sources += [*Path(mtds_sklearn.__file__).parent.rglob("*.py"), HERE / "rivals" / "own.py"]
    else:
        sources += [path for path in (HERE / "rivals").glob("*.py") if path.name != "own.py"]
    digest = hashlib.sha256()
    for path in sorted(sources):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
