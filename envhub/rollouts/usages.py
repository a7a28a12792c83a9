"""Usages: what a worker tells its manager of its quotas, so that these move to where work waits."""

from collections.abc import Callable

from envhub.rollouts import wire
from envhub.rollouts.platform import Platform

LOOK_S = 0.05  # how late a manager may learn that a worker wants more
MUCH = 0.25  # by which part what is wanted must have changed, to be told again at once


class Usages:
    """Of the quotas of one worker, which has nothing until its manager says so."""

    def __init__(self, platform: Platform, send: Callable[[wire.Usage], None]) -> None:
        self._platform = platform
        self._send = send
        self._numbers: dict[str, int] = {}  # of the last allotment
        self._told: dict[str, wire.Usage] = {}

    def begin(self) -> dict[str, int]:
        """The limits that there are, all workers together. From now on none of them is for this one."""
        self._platform.environments.rationed = True
        quotas = self._platform.quotas
        for quota in quotas.values():
            quota.resize(0, final=False)
        return {name: quota.total for name, quota in quotas.items()}

    def obey(self, allotted: wire.Allot) -> None:
        self._numbers[allotted.name] = allotted.number
        self._platform.quotas[allotted.name].resize(allotted.quota, final=allotted.final)
        self._tell(self._now(allotted.name))

    def look(self, *, closely: bool) -> None:
        """Tells what the manager should know; `closely`: also what can wait."""
        for name in self._platform.quotas:
            now, told = self._now(name), self._told.get(name)
            if told is None or (now != told and (closely or _matters(now, told))):
                self._tell(now)

    def _now(self, name: str) -> wire.Usage:
        quota = self._platform.quotas[name]
        return wire.Usage(name, quota.total, quota.bound, quota.demand, self._numbers.get(name, -1))

    def _tell(self, usage: wire.Usage) -> None:
        self._told[usage.name] = usage
        self._send(usage)


def _matters(now: wire.Usage, told: wire.Usage) -> bool:
    """Whether it has given up something, or wants another amount than it did."""
    return now.bound < told.bound or abs(now.wanted - told.wanted) > MUCH * told.wanted
