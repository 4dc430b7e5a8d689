"""First use: what is compiled, how often, where it is kept, and who is told."""

import importlib
import json
import os
import pkgutil
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from joblib import Parallel, cpu_count, delayed, parallel_config
from numba import njit
from numba.core.dispatcher import Dispatcher

import mtds_sklearn
from mtds_sklearn import _ahead, _compilation
from mtds_sklearn.compile import KERNELS, main
from mtds_sklearn.kernels import _adjoint

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
from sklearn.utils import Bunch
warnings.simplefilter("ignore")
free = make_oscillators(6, 12, random_state=0)
free.y[::7] = np.nan
many = Bunch(**free | {"y": free.y[:, None] * np.arange(1.0, 7.0)})
driven = make_input_driven(6, 12, random_state=0)
setting = dict(n_states=2, latent_dim=1, n_init=1, max_iter=2, random_state=0)
for data, options in (
    (free, {"disturbance": "innovations", "sequence_noise": True}),
    (driven, {"disturbance": "none"}),
    (free, {"disturbance": "none", "transition": "cayley", "n_states": 3}),
    (many, {"disturbance": "none"}),
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
    f"{module.__name__}.{name}": [
        str(tuple(value.py_func.__annotations__.values())), *map(str, value.signatures)
    ]
    for module in modules
    for name, value in vars(module).items()
    if hasattr(value, "signatures") and value.stats.cache_path is not None and name[0] != "_"
}))
"""


def test_no_kernel_is_compiled_for_more_than_one_kind_of_arguments():
    # Read-only or not, and in rows or in columns, are different kinds of array to numba. Helpers,
    # which have no cache of their own or an underscore, are compiled with kernels that call them.
    found = json.loads(run_python(FIT_EVERYTHING, PACKAGE.parent).stdout)
    called = {name: kinds for name, (_, *kinds) in found.items() if kinds}
    assert len(called) == len(KERNELS) - 1  # test_growing_noise.py calls shrunk_squares
    assert called == {name: [found[name][0]] for name in called}


def test_functions_without_a_module_are_compiled_beside_the_package():
    """As `exec` makes them in other people's code; the log of compilations hears of these too."""
    namespace = {}
    exec("def double(x):\n    return 2 * x", namespace)
    assert namespace["double"].__module__ is None
    assert njit(namespace["double"])(3) == 6


# ---------------------------------------------------------------- ahead, and in two processes


def test_all_kernels_that_python_calls_are_compiled_ahead():
    names = [info.name for info in pkgutil.iter_modules(mtds_sklearn.kernels.__path__)]
    modules = [importlib.import_module(f"mtds_sklearn.kernels.{name}") for name in names]
    found = {
        _ahead.name_of(value)
        for module in modules
        for name, value in vars(module).items()
        if isinstance(value, Dispatcher) and value.stats.cache_path is not None
    }
    # The gradient, which no fit needs, is compiled for the sizes at hand.
    assert found == {*KERNELS, _ahead.name_of(_adjoint.gradient_theta)}


IN_TWO = """
import json, logging, subprocess, sys
from mtds_sklearn import _ahead, _compilation
from mtds_sklearn.kernels import _proposals
logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(message)s")
own, other = _proposals.tempering_powers, _proposals.draw_components
halves, command, processes = ([own], [other]), None, []
class Popen(subprocess.Popen):
    def __init__(self, args, **options):
        super().__init__(command or args, **options)
        processes.append(self)
subprocess.Popen = Popen
{before}
try:
    _ahead.compile_in_two(*halves)
except KeyboardInterrupt:
    print("interrupted", file=sys.stderr)
_ahead.compile_kernels([own, other])
print(json.dumps({
    "hits": [sum(kernel.stats.cache_hits.values()) for kernel in (own, other)],
    "misses": [sum(kernel.stats.cache_misses.values()) for kernel in (own, other)],
    "ends": [process.returncode for process in processes],
}))
"""


def compile_in_two(folder, before=""):
    """What a process loads and compiles with what `folder` holds, and what it logs."""
    program = IN_TWO.replace("{before}", before)
    run = run_python(program, PACKAGE.parent, NUMBA_CACHE_DIR=str(folder))
    return json.loads(run.stdout), run.stderr


def test_what_the_second_process_compiles_is_loaded(tmp_path):
    first, log = compile_in_two(tmp_path)
    assert first == {"hits": [0, 1], "misses": [1, 0], "ends": [0]}
    assert "Two processes compile: a second one takes 1 kernels." in log
    again, log = compile_in_two(tmp_path)
    assert again == {"hits": [1, 1], "misses": [0, 0], "ends": []}
    assert log == ""


HANGS = """
command, _ahead.PATIENCE = [sys.executable, "-c", "import time; time.sleep(60)"], 0.1
"""
INTERRUPTED = """
class Interrupted:
    py_func = own.py_func
    def compile(self, kinds):
        raise KeyboardInterrupt
halves = ([own, Interrupted()], [other])
"""


@pytest.mark.parametrize(
    ("before", "ends", "said"),
    [
        ("command = [sys.executable, '-c', 'exit(3)']", [3], "The second process failed"),
        ("command = ['/no/such/python']", [], "No second process compiles: "),
        (HANGS, [-9], "The second process failed"),
        (INTERRUPTED, [-9], "interrupted"),
    ],
    ids=["fails", "is missing", "hangs", "is interrupted"],
)
@pytest.mark.skipif(os.name != "posix", reason="the exit code of a killed process")
def test_a_second_process_that_fails_is_done_without(tmp_path, before, ends, said):
    found, log = compile_in_two(tmp_path, before)
    assert found == {"hits": [0, 0], "misses": [1, 1], "ends": ends}
    assert said in log


def test_the_second_process_ends_with_the_first(tmp_path):
    command = [sys.executable, "-m", "mtds_sklearn.compile", "--while-stdin-is-open"]
    process = subprocess.run(
        [*command, "_latents.maximize_latent"], input=b"", stdout=subprocess.PIPE, check=False,
        cwd=PACKAGE.parent, env=os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)},
    )  # fmt: skip
    assert (process.returncode, process.stdout) == (1, b"")


@pytest.fixture
def two_cores(monkeypatch):
    monkeypatch.setenv("NUMBA_NUM_THREADS", "2")
    monkeypatch.delenv(_ahead.SWITCH, raising=False)
    monkeypatch.setattr(_ahead, "cpu_count", lambda: 2)


def test_two_cores_of_a_first_process_are_used(two_cores):
    assert _ahead.may_start_a_second()


@pytest.mark.parametrize(
    ("name", "value"), [(_ahead.SWITCH, "1"), (_ahead.SWITCH, "0"), ("NUMBA_NUM_THREADS", "1")]
)
def test_the_environment_can_forbid_a_second_process(two_cores, monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    assert not _ahead.may_start_a_second()


def test_the_share_of_a_container_can_forbid_a_second_process(two_cores, monkeypatch):
    monkeypatch.setattr(_ahead, "cpu_count", lambda: 1)
    assert not _ahead.may_start_a_second()


@pytest.mark.parametrize("executable", ["/usr/sbin/uwsgi", "", None])
def test_a_program_that_is_not_python_is_not_started(two_cores, monkeypatch, executable):
    monkeypatch.setattr(sys, "executable", executable)
    assert not _ahead.may_start_a_second()


@pytest.mark.parametrize("backend", ["loky", "multiprocessing"])
def test_workers_start_no_process(two_cores, backend):
    with parallel_config(backend, **({"inner_max_num_threads": 2} if backend == "loky" else {})):
        assert Parallel(2)(delayed(_ahead.may_start_a_second)() for _ in range(2)) == [False] * 2


def test_nothing_is_kept_in_the_folder_of_a_process(two_cores, monkeypatch):
    monkeypatch.setattr(_compilation, "_FOLDER", "temporary")
    assert not _ahead.may_start_a_second()
    with pytest.raises(SystemExit):
        main([])


def test_the_command_names_what_it_knows(capsys):
    main(["_proposals.draw_components", "_mixtures.mixture_moments"])
    assert capsys.readouterr().out.startswith("2 kernels are kept in ")
    with pytest.raises(SystemExit):
        main(["draw"])
    assert "there are no kernels ['draw'], only ['_forward.simulate'" in capsys.readouterr().err


COLD_FIT = """
import json, warnings
from mtds_sklearn import MTLDSRegressor, compile
from mtds_sklearn.datasets import make_oscillators
warnings.simplefilter("ignore")
data = make_oscillators(6, 12, random_state=0)
model = MTLDSRegressor(
    2, 2, specific_variances=False, disturbance="innovations", n_init=1, max_iter=2, random_state=0
)
model.fit(data.X, data.y, groups=data.groups)
model.predict(data.X, groups=data.groups + 100, y_context=data.y)
print(json.dumps({
    name: [sum(kernel.stats.cache_hits.values()), sum(kernel.stats.cache_misses.values())]
    for name, kernel in compile.KERNELS.items()
}))
"""


@pytest.mark.slow
@pytest.mark.skipif(cpu_count() < 2, reason="two processes need two cores")
def test_a_fit_compiles_half_of_its_kernels_or_none(tmp_path):
    cache = {"NUMBA_CACHE_DIR": str(tmp_path), "NUMBA_NUM_THREADS": "2"}
    first, again = (
        json.loads(run_python(COLD_FIT, PACKAGE.parent, **cache).stdout) for _ in range(2)
    )
    own = {_ahead.name_of(kernel) for kernel in _ahead.OWN_HALF}
    assert {name for name, (_, misses) in first.items() if misses} == own
    assert first["_forward.simulate"] == [1, 0]
    assert {misses for _, misses in again.values()} == {0}


@pytest.mark.slow
def test_the_command_leaves_nothing_to_compile(tmp_path):
    environment = os.environ | {"NUMBA_CACHE_DIR": str(tmp_path)}
    command = [sys.executable, "-m", "mtds_sklearn.compile"]
    first, again = (
        subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
        for _ in range(2)
    )
    for kernel in KERNELS.values():
        assert f"Compiled {kernel.py_func.__name__} in" in first.stderr
    assert again.stderr == ""
    assert again.stdout.startswith(f"{len(KERNELS)} kernels are kept in {tmp_path}")
