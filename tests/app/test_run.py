"""`envhub.run()`: what a program gets back, and what it is refused before anything starts."""

from collections.abc import Iterator
from pathlib import Path

import pytest

import envhub
from envhub.app import Settings
from envhub.contracts.access import Access, Role, Token
from envhub.contracts.members import MemberState
from envhub.contracts.outcome import Status
from envhub.contracts.score import JudgeInput
from envhub.errors import UnknownName, UsageError
from envhub.registry import environments
from envhub.rollouts.admission import Caps
from judges import number

ARITHMETIC = "envhub/arithmetic-v0"


@pytest.fixture
def database(tmp_path: Path) -> str:
    return str(tmp_path / "run.db")


@pytest.fixture(autouse=True)
def registered_for_one_test(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    environments.get(ARITHMETIC)
    monkeypatch.setattr(environments, "_known", dict(environments._known))
    yield


def test_a_run_gives_its_groups_with_an_outcome_a_member(database: str):
    result = envhub.run(ARITHMETIC, groups=3, k=2, engine="scripted", database=database)
    assert len(result.groups) == 3
    tasks = {task.id for task in environments.get(ARITHMETIC).load_tasks()}
    for group in result.groups:
        assert group.task.id in tasks
        assert [outcome.status for outcome in group.outcomes] == [Status.COMPLETED] * 2
        assert [outcome.rollout_id.rpartition("-")[0][-1] for outcome in group.outcomes] == ["0", "1"]
        assert all(len(outcome.trajectory.rows) == 1 for outcome in group.outcomes)
        assert group.rewards == [outcome.reward for outcome in group.outcomes]
    assert result.rewards == [group.rewards for group in result.groups]
    assert result.members.of(MemberState.ACKED) == result.members.submitted == 6
    assert result.members.drained
    assert result.database == database


def test_runs_of_one_seed_play_the_same_and_another_seed_plays_otherwise(database: str):
    def played(seed: int) -> list[tuple[str, list[list[int]]]]:
        result = envhub.run(ARITHMETIC, groups=4, engine="scripted", seed=seed, database=database)
        return [
            (group.task.id, [outcome.trajectory.rows[0].ids.tolist() for outcome in group.outcomes])
            for group in result.groups
        ]

    assert played(1) == played(1) != played(2)


def test_a_member_without_a_valid_score_has_no_reward(database: str):
    def exacting(input: JudgeInput) -> float:
        if number(input).scalar:
            return 1.0
        raise ConnectionError("the judge is down")

    @envhub.environment("test/exacting-v0", tasks=[envhub.Task.ask(f"What is {a} + 1?", a + 1) for a in range(5)])
    def sums() -> envhub.Environment:
        return envhub.SingleTurn(exacting)

    result = envhub.run("test/exacting-v0", groups=5, engine="scripted", database=database)
    rewards = [reward for group in result.rewards for reward in group]
    assert set(rewards) == {1.0, None}
    assert result.members.of(MemberState.FAILED) == rewards.count(None)
    assert result.members.drained


def test_an_environment_that_needs_a_sandbox_is_refused_where_none_isolates(
    database: str, monkeypatch: pytest.MonkeyPatch
):
    async def none(backends: object) -> None:
        return None

    monkeypatch.setattr("sandboxes.choose.first_isolating", none)
    with pytest.raises(UsageError, match=r"envhub/calculator-v0 needs a sandbox .* --sandbox process"):
        envhub.run("envhub/calculator-v0", engine="scripted", database=database)
    result = envhub.run("envhub/calculator-v0", engine="scripted", sandbox="process", database=database)
    assert result.members.drained


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"engine": "script"}, "no engine 'script'; did you mean scripted"),
        ({"agent": "loop"}, "no agent 'loop'; did you mean tool-loop"),
        ({"judge": "numbers"}, "no judge 'numbers'; did you mean number"),
        ({"sandbox": "jail"}, "no sandbox back end 'jail'"),
        ({"k": 0}, "k is 0; it must be at least 1"),
        ({"groups": -1}, "groups is -1; it must be at least 1"),
        ({"weights": "absent.gguf", "engine": "embedded"}, "no weights file 'absent.gguf'"),
    ],
)
def test_what_cannot_work_is_refused_before_anything_starts(database: str, changes: dict[str, object], message: str):
    options: dict[str, object] = {"engine": "scripted", "database": database, **changes}
    with pytest.raises(UsageError, match=message):
        envhub.run(ARITHMETIC, **options)  # type: ignore[arg-type]


def test_an_unknown_environment_offers_the_nearest(database: str):
    with pytest.raises(UnknownName, match="did you mean envhub/delegate-v0"):
        envhub.run("envhub/delegat-v0", engine="scripted", database=database)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"max_running": 0}, "max_running is 0; it must be positive"),
        ({"lease_s": -1.0}, "lease_s is -1.0; it must be positive"),
        ({"max_sandboxes_per_spec": 0}, "max_per_spec of the sandbox pool is 0; it must be positive"),
        ({"feed": "localhost"}, "address 'localhost' must read HOST:PORT"),
        ({"feed": "127.0.0.1:http"}, "must read HOST:PORT"),
    ],
)
def test_settings_that_cannot_work_are_refused(changes: dict[str, object], message: str):
    with pytest.raises(UsageError, match=message):
        Settings(**changes)  # type: ignore[arg-type]


@pytest.mark.anyio
@pytest.mark.parametrize(
    ("caps", "message"),
    [
        (Caps(environments={"envhub/delegat-v0": 1}), "no environment 'envhub/delegat-v0'; did you mean"),
        (Caps(engines={"vllm": 1}), "no engine 'vllm'; registered: scripted"),
        (Caps(policies={"frozen": 1}), "no policy 'frozen'; registered: policy"),
    ],
)
async def test_a_cap_that_would_hold_nobody_back_is_refused(database: str, caps: Caps, message: str):
    with pytest.raises(UnknownName, match=message):
        await envhub.play(envhub.Job((ARITHMETIC,)), Settings(engine="scripted", database=database, caps=caps))


def test_settings_keep_tokens_and_keys_to_themselves():
    assert "secret" not in repr(Settings(access=Access((Token("secret", Role.TRAINER),))))


@pytest.mark.anyio
async def test_run_says_what_to_await_where_a_loop_runs_already(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="loop runs here already"):
        envhub.run("envhub/arithmetic-v0", engine="scripted", database=str(tmp_path / "run.db"))
    settings = envhub.Settings(database=str(tmp_path / "run.db"), engine="scripted")
    result = await envhub.play(envhub.Job(("envhub/arithmetic-v0",), k=2), settings)
    assert len(result.rewards[0]) == 2
