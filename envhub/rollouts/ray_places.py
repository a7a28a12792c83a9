"""RayPlaces: where in a Ray cluster worker processes go. Names no module of Ray: settings can be made without it."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from envhub.errors import UsageError

CPU = "CPU"  # Ray's names of what every node has; all others are the cluster's own
NEEDS = {CPU: 1.0}
ADDRESS, CLIENT = re.compile(r".+:\d+"), "ray://"


@dataclass(frozen=True, slots=True)
class RayPlaces:
    """Nodes of that cluster that have what each worker needs.

    Raises:
        UsageError: an address or a need that can't be.
    """

    address: str  # HOST:PORT of the head; auto: the cluster that this machine is part of
    needs: Mapping[str, float] = field(default_factory=lambda: dict(NEEDS))  # of a node, for one worker alone
    labels: Mapping[str, str] = field(default_factory=dict)  # that its node has

    def __post_init__(self) -> None:
        if self.address.startswith(CLIENT) or not (self.address == "auto" or ADDRESS.fullmatch(self.address)):
            raise UsageError(
                f"address of Ray is '{self.address}'; it must be HOST:PORT of the head, or auto on one of its nodes: "
                "the manager is part of the cluster"
            )
        for name, amount in self.needs.items():
            if amount < 0:
                raise UsageError(f"a worker needs {amount:g} of '{name}'; it must be 0 or more")

    def __str__(self) -> str:
        needs = [f"{amount:g} {name}" for name, amount in self.needs.items()]
        labels = [f"{name}={value}" for name, value in self.labels.items()]
        return ", ".join([*needs, *labels]) or "nothing"
