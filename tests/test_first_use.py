"""First use: what is compiled, how often, where it is kept, and who is told."""

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from numba import njit

import mtds_sklearn

PACKAGE = Path(mtds_sklearn.__file__).parent


def run_python(code: str, folder: Path, **environment: str) -> subprocess.CompletedProcess:
    """Run a program that finds the package in a folder, with an environment variable or two."""
    names = ("NUMBA_CACHE_DIR", "XDG_CACHE_HOME", "HOME")
    kept = {name: value for name, value in os.environ.items() if name not in names}
    environment = kept | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"} | environment
    run = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=environment, cwd=folder, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert run.returncode == 0, run.stderr
    return run


@pytest.fixture(scope="module")
def read_only(tmp_path_factory):
    """A folder with a copy of the package that nobody can write a cache to, root included."""
    folder = tmp_path_factory.mktemp("site-packages")
    shutil.copytree(PACKAGE, folder / "mtds_sklearn", ignore=shutil.ignore_patterns("__pycache__"))
    for place in ("", "kernels"):
        cache = folder / "mtds_sklearn" / place / "__pycache__"
        cache.write_text("a file where a folder should be")
    return folder


CALL_A_KERNEL = """
import json, logging, sys
import numpy as np
import mtds_sklearn
from mtds_sklearn.kernels import _poles
logging.basicConfig(level=logging.INFO, stream=sys.stdout)
kernel = _poles.block_normal_equations
rows = np.zeros((2, 1))
kernel(np.zeros((1, 4)), np.array([0]), np.array([2]), (rows, rows, rows),
       np.zeros((1, 1, 1, 6, 6)), np.zeros((1, 1, 1, 6)))
"""


def test_a_read_only_installation_compiles_once_into_the_users_cache(read_only, tmp_path):
    places = {"HOME": str(tmp_path), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    first, second = (run_python(CALL_A_KERNEL, read_only, **places) for _ in range(2))
    start, end = first.stdout.splitlines()
    assert start.startswith("INFO:mtds_sklearn:Compiling block_normal_equations, which takes")
    assert str(tmp_path) in start
    assert end.startswith("INFO:mtds_sklearn:Compiled block_normal_equations in ")
    assert list(tmp_path.rglob("*.nbi"))
    assert second.stdout == ""
    assert first.stderr == second.stderr == ""


def test_without_any_folder_to_write_to_kernels_still_run(read_only, tmp_path):
    file = tmp_path / "file"
    file.write_text("no folder can be made below a file")
    places = {"HOME": str(file / "home"), "XDG_CACHE_HOME": str(file / "cache")}
    run = run_python(CALL_A_KERNEL, read_only, **places)
    assert "Compiled block_normal_equations" in run.stdout
    assert "NUMBA_CACHE_DIR" in run.stderr


FIT_EVERYTHING = """
import importlib, json, pkgutil, warnings
import numpy as np
import mtds_sklearn
from mtds_sklearn import MTLDSRegressor, PooledLDS, SingleTaskLDS
from mtds_sklearn.datasets import make_input_driven, make_oscillators
warnings.simplefilter("ignore")
free = make_oscillators(6, 12, random_state=0)
free.y[::7] = np.nan
driven = make_input_driven(6, 12, random_state=0)
setting = dict(n_states=2, latent_dim=1, n_init=1, max_iter=2, random_state=0)
for data, options in (
    (free, {"disturbance": "innovations", "sequence_noise": True}),
    (driven, {"disturbance": "none"}),
    (free, {"disturbance": "none", "transition": "cayley", "n_states": 3}),
):
    model = MTLDSRegressor(**(setting | options))
    model.fit(data.X, data.y, groups=data.groups, sample_weight=1.0 + (data.groups > 2))
    new = dict(groups=data.groups + 100, y_context=data.y)
    model.predict(data.X, return_std=True, quantiles=[0.1], **new)
    model.forecast_log_density(data.X, data.y, **new)
    model.predict(data.X, horizon=2, **new)
    model.sample_y(data.X, n_samples=2, **new)
    own = data.groups == 0
    (posterior,) = model.sequence_posterior(
        data.X[own][:5], data.y[own][:5], groups=data.groups[own][:5]
    ).values()
    posterior.update(data.X[own][5:6], data.y[own][5:6]).predict(data.X[own][6:])
model.set_params(disturbance="none").partial_fit(data.X, data.y, groups=data.groups)
PooledLDS(n_states=2).fit(free.X, free.y, groups=free.groups).predict(free.X, groups=free.groups)
single = SingleTaskLDS(n_states=2).fit(free.X, free.y, groups=free.groups)
single.predict(free.X, groups=free.groups)
modules = [
    importlib.import_module(info.name)
    for info in pkgutil.walk_packages(mtds_sklearn.__path__, "mtds_sklearn.")
    if info.name.startswith("mtds_sklearn.kernels.")
]
print(json.dumps({
    f"{module.__name__}.{name}": [str(signature) for signature in value.signatures]
    for module in modules
    for name, value in vars(module).items()
    if hasattr(value, "signatures") and value.stats.cache_path is not None and name[0] != "_"
}))
"""


def test_no_kernel_is_compiled_for_more_than_one_kind_of_arguments():
    # Read-only or not, and in rows or in columns, are different kinds of array to numba. Helpers,
    # which have no cache of their own or an underscore, are compiled with kernels that call them.
    found = json.loads(run_python(FIT_EVERYTHING, PACKAGE.parent).stdout)
    assert sum(len(signatures) for signatures in found.values()) >= 8
    assert {name: kinds for name, kinds in found.items() if len(kinds) > 1} == {}


def test_functions_without_a_module_are_compiled_beside_the_package():
    """As `exec` makes them in other people's code; the log of compilations hears of these too."""
    namespace = {}
    exec("def double(x):\n    return 2 * x", namespace)
    assert namespace["double"].__module__ is None
    assert njit(namespace["double"])(3) == 6
