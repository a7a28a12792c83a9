"""LiveRun: the run that the dashboard's own process plays, as the dashboard sees it."""

from collections.abc import Callable
from dataclasses import dataclass

from envhub.contracts.delivery import Control
from envhub.contracts.ids import RunId
from envhub.monitor.activity import Activity
from envhub.monitor.acts import Acts
from envhub.monitor.cpu_profile import CpuProfiler
from envhub.monitor.metrics import Metrics
from envhub.monitor.vitals import Vitals


@dataclass(frozen=True, slots=True)
class LiveRun:
    """What it can be asked, and what is known of it beyond its records."""

    run_id: RunId
    control: Control
    acts: Acts
    vitals: Callable[[], Vitals]
    activity: Activity
    metrics: Metrics
    profiler: CpuProfiler | None = None  # None: nobody profiles its loop here
