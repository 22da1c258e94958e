"""Fixtures shared by all tests."""

import sys
from pathlib import Path

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parent))


@pytest.fixture
def rng():
    """Random numbers with a fixed seed."""
    return np.random.default_rng(20251122)
