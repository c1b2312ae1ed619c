"""The verdict of the noisy claim."""

import numpy as np
import pytest

from benchmark.claims import noisy_dqn as claim


@pytest.mark.parametrize(
    ("noise", "fixed", "holds"), [(20, 3, True), (18, 10, True), (17, 3, False), (20, 11, False), (0, 20, False)]
)
def test_verdict(noise, fixed, holds):
    solved = {claim.NOISY: np.arange(20) < noise, claim.FIXED: np.arange(20) < fixed}
    assert claim.judge(solved).startswith("reproduces: " if holds else "does NOT reproduce: ")
