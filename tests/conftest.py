from pathlib import Path

import numpy as np
import pytest
from threadpoolctl import threadpool_limits

import mtds_sklearn

KERNELS = Path(mtds_sklearn.__file__).parent / "kernels"


def pytest_configure():
    """Let kernels be compiled anew after an edit: numba's cache sees only the caller's file."""
    edited = max(path.stat().st_mtime for path in KERNELS.glob("*.py"))
    for index in (KERNELS / "__pycache__").glob("*.nbi"):
        if index.stat().st_mtime < edited:
            index.unlink(missing_ok=True)


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers that are the same in every run."""
    return np.random.default_rng(20220723)


@pytest.fixture(scope="session", autouse=True)
def one_blas_thread():
    """The matrices of the tests are small: threads would wait for each other on shared cores."""
    with threadpool_limits(limits=1, user_api="blas"):
        yield
