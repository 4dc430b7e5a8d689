"""The methods of the comparison by name, and what their cached results depend on."""

import hashlib
from collections.abc import Callable
from functools import cache
from importlib.util import find_spec
from pathlib import Path

from real_families import POSITIVE
from rivals.curves import GaussianCurves, NearestCurves
from rivals.knowing import Oracle
from rivals.knowing_signs import SignOracle
from rivals.logged import Logged
from rivals.mixed_model import MixedModel
from rivals.own import Estimator
from rivals.true_families import TRUE_FAMILIES

import mtds_sklearn

HERE = Path(__file__).parent
OURS = "MTLDSRegressor"
LOGGED = "MTLDSRegressor, log1p"
LOG1P = {"y_transform": "log1p"}
ORACLE = "oracle"
SIGNS = "input-driven"  # the family whose oracle is exact


class SingleTask(Estimator):
    """It cannot forecast one step ahead: it would have to learn anew after every row."""

    one_step = False


def makers(family: str, seed: int, options: dict) -> dict[str, Callable]:
    """Method name -> function that makes it unfitted; `options` go to `MTLDSRegressor`.

    An oracle is there for the families whose making it knows, a network where PyTorch is.
    """
    return {
        OURS: lambda: Estimator(OURS, **({"random_state": seed} | options)),
        LOGGED: lambda: Estimator(OURS, **({"random_state": seed} | options | LOG1P)),
        "PooledLDS": lambda: Estimator("PooledLDS"),
        "SingleTaskLDS": lambda: SingleTask("SingleTaskLDS"),
        "mixed model": MixedModel,
        "mixed model, log1p": lambda: Logged(MixedModel()),
        "Gaussian": GaussianCurves,
        "nearest": NearestCurves,
        "autoregression": _autoregression,
        "recurrent": lambda: _recurrent(seed),
        ORACLE: lambda: SignOracle() if family == SIGNS else Oracle(family, seed),
    }


def method_names() -> list[str]:
    """Names of the methods that can run here."""
    return [name for name in makers("", 0, {}) if name != "recurrent" or find_spec("torch")]


def knows(method: str, family: str) -> bool:
    """Whether a method can do anything with a family."""
    if method.endswith("log1p"):
        return family in POSITIVE
    return method != ORACLE or family in (*TRUE_FAMILIES, SIGNS)


def _autoregression():
    from rivals.autoregression import Autoregression  # statsmodels

    return Autoregression()


def _recurrent(seed: int):
    from rivals.recurrent import Recurrent  # torch

    return Recurrent(seed)


# Files in `rivals` that a method's results depend on.
SOURCES = {
    "mixed model, log1p": (
        "mixed_model",
        "random_effects",
        "response_bank",
        "conditioning",
        "logged",
    ),
    "mixed model": ("mixed_model", "random_effects", "response_bank", "conditioning"),
    "Gaussian": ("curves", "conditioning"),
    "nearest": ("curves", "conditioning"),
    "autoregression": ("autoregression",),
    "recurrent": ("recurrent",),
    ORACLE: ("knowing", "knowing_signs", "true_families", "pushed_kernel"),
}


@cache  # of the sources as they are at the first call, before any long run
def fingerprint(method: str) -> str:
    """Digest of the source that a method's results depend on, the families included."""
    sources = [*HERE.glob("*families.py"), HERE / "scoring.py", HERE / "sequences.py"]
    sources += [HERE / "rivals" / f"{name}.py" for name in SOURCES.get(method, ("own",))]
    if method not in SOURCES:
        sources += Path(mtds_sklearn.__file__).parent.rglob("*.py")
    digest = hashlib.sha256()
    for path in sorted(sources):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
