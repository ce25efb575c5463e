"""Both kinds of range test on models whose probes take long."""

import pytest

from field.same import at_once
from field.same import in_a_fit
from field.same import ramp_alone


@pytest.fixture
def ways(request):
    """Both kinds with `--thorough`; without, a ramp by `lr_find` alone."""
    thorough = request.config.getoption("--thorough")
    return (at_once, in_a_fit) if thorough else (ramp_alone,)
