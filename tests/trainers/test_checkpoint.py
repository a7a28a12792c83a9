"""A checkpoint brings back weights, optimizer and cursor together, or none of them."""

from pathlib import Path

import pytest

from envhub.contracts.ids import RunId
from envhub.errors import UsageError
from envhub.feed.client import Cursor

torch = pytest.importorskip("torch", reason="the extra `torch` is not installed")

RUN = RunId("run")


def made(path: Path, width: int = 3):
    from envhub.trainers.checkpoint import Checkpoint

    model = torch.nn.Linear(width, 1)
    return Checkpoint(path, model, torch.optim.AdamW(model.parameters(), 0.1))


def stepped(checkpoint) -> list[float]:
    """The weights after one more step."""
    checkpoint.model(torch.ones(1, 3)).sum().backward()
    checkpoint.optimizer.step()
    checkpoint.optimizer.zero_grad()
    return checkpoint.model.weight.flatten().tolist()


def test_goes_on_as_if_nothing_had_happened(tmp_path: Path) -> None:
    before, cursor = made(tmp_path / "checkpoint.pt"), Cursor()
    stepped(before)
    cursor.add(RUN, 0)
    before.save(1, cursor)
    after = made(tmp_path / "checkpoint.pt")
    step, loaded = after.load()
    assert step == 1
    assert loaded.as_json() == cursor.as_json()
    assert stepped(after) == stepped(before)  # also by the optimizer's moments


def test_nothing_is_brought_back_where_none_was_saved(tmp_path: Path) -> None:
    step, cursor = made(tmp_path / "checkpoint.pt").load()
    assert (step, len(cursor)) == (0, 0)


def test_a_save_that_fails_leaves_the_last_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    checkpoint = made(tmp_path / "checkpoint.pt")
    checkpoint.save(1, Cursor())

    def full(states: object, file: object) -> None:
        file.write(b"half of it")
        raise OSError("no space left on device")

    monkeypatch.setattr(torch, "save", full)
    with pytest.raises(OSError, match="no space"):
        checkpoint.save(2, Cursor())
    assert made(checkpoint.path).load()[0] == 1


def test_weights_of_another_model_are_refused(tmp_path: Path) -> None:
    made(tmp_path / "checkpoint.pt").save(1, Cursor())
    with pytest.raises(UsageError, match="is of another model"):
        made(tmp_path / "checkpoint.pt", width=4).load()
