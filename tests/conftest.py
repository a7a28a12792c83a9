"""What every test shares."""

import pytest
from hypothesis import HealthCheck, settings

# A test is never timed: the machine may be busy.
settings.register_profile("envhub", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("envhub")


@pytest.fixture
def anyio_backend() -> str:
    return "asyncio"
