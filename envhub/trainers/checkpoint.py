"""A checkpoint of a trainer in torch: its weights, and of which groups they are made. Needs the extra `torch`.

Weights and cursor are one file, so that a kill leaves both or neither: ack the groups once it is saved, and none is
lost and none trained on twice.
"""

import os
from dataclasses import dataclass
from pathlib import Path

import torch
from torch.nn import Module
from torch.optim import Optimizer

from envhub.errors import UsageError
from envhub.feed.client import Cursor


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """Where it is, and whose states it holds."""

    path: Path
    model: Module
    optimizer: Optimizer

    def save(self, step: int, cursor: Cursor) -> None:
        """The whole of it or nothing; on the disk once this returns."""
        states = {"model": self.model.state_dict(), "optimizer": self.optimizer.state_dict()}
        beside = self.path.with_suffix(".new")
        with beside.open("wb") as file:
            torch.save({**states, "step": step, "cursor": cursor.as_json()}, file)
            os.fsync(file.fileno())
        beside.replace(self.path)

    def load(self) -> tuple[int, Cursor]:
        """Brings the states back; the step and the cursor that were saved with them. Step 0, and nothing brought back,
        where none was saved yet.

        Raises:
            UsageError: it is of another model.
        """
        if not self.path.exists():
            return 0, Cursor()
        device = next(self.model.parameters()).device
        saved = torch.load(self.path, map_location=device, weights_only=True)
        try:
            self.model.load_state_dict(saved["model"])
        except RuntimeError as error:
            raise UsageError(
                f"checkpoint '{self.path}' is of another model: {error}; give it the same weights"
            ) from error
        self.optimizer.load_state_dict(saved["optimizer"])
        return saved["step"], Cursor(saved["cursor"])
