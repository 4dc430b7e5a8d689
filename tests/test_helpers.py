"""The helpers of the tests must reject what they are there to reject."""

import numpy as np
import pytest
from small_families import assert_never_falls


@pytest.mark.parametrize("values", [[-1.0, 0.0, 0.0, 2.0], [1e6, 1e6 - 1e-5, 1e6]])
def test_a_rising_run_and_rounding_pass(values):
    assert_never_falls(values)


def test_a_falling_run_is_found_at_its_worst_step():
    with pytest.raises(AssertionError, match=r"fell from 3 to 2 at step 3 of 4"):
        assert_never_falls([1.0, 3.0 + 1e-3, 3.0, 2.0, 4.0])


@pytest.mark.parametrize("values", [[1.0, np.nan, 2.0], [1.0], [], [[1.0], [2.0]], [1.0, np.inf]])
def test_a_run_that_shows_nothing_is_no_proof(values):
    with pytest.raises(AssertionError):
        assert_never_falls(values)
