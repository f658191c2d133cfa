"""These tests compile more than they compute."""

import pytest


@pytest.fixture(autouse=True, scope="module")
def compile_quickly(quickly_compiled):
    """Compiles every program of these tests without optimizations."""
