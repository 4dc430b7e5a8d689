import numpy as np
import pytest
from threadpoolctl import threadpool_limits


@pytest.fixture
def rng() -> np.random.Generator:
    """Random numbers that are the same in every run."""
    return np.random.default_rng(20220723)


@pytest.fixture(scope="session", autouse=True)
def one_blas_thread():
    """The matrices of the tests are small: threads would wait for each other on shared cores."""
    with threadpool_limits(limits=1, user_api="blas"):
        yield
