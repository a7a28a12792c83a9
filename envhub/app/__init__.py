"""The composition root: settings become objects here, and only here."""

from envhub.app.embedded import PlayedGroup, Runner, embedded
from envhub.app.live_run import Run, check_names, open_run, open_sandboxes
from envhub.app.playing import LOOP, GroupResult, RunResult, play, run
from envhub.app.services import Addresses, Services, open_services
from envhub.app.settings import Settings
from envhub.app.traces import has_run, open_traces, stored_members

__all__ = [
    "LOOP",
    "Addresses",
    "GroupResult",
    "PlayedGroup",
    "Run",
    "RunResult",
    "Runner",
    "Services",
    "Settings",
    "check_names",
    "embedded",
    "has_run",
    "open_run",
    "open_sandboxes",
    "open_services",
    "open_traces",
    "play",
    "run",
    "stored_members",
]
