"""Judges that ask a real model: one that can't judge is a failure of the judge, after its retries, and never a mark."""

from pathlib import Path

import pytest

import envhub
from envhub.contracts.ids import TRAINED
from envhub.contracts.outcome import Outcome, Status
from envhub.contracts.rollout import Limits
from envhub.contracts.task import Task
from envhub.contracts.turn import Sampling
from envhub.environments.single_turn import SingleTurn
from envhub.errors import Boundary
from envhub.registry import environment
from judges.agent import AgentJudge
from judges.rubric import RubricJudge
from judges.rubrics import Criterion, Rubric
from judges.text import finished
from tests.judges.court import bench

pytestmark = [pytest.mark.anyio, pytest.mark.engines]

TASKS = [Task.ask("What is the capital of France?", "Paris")]
RUBRIC = Rubric((Criterion("correct", "names the right city"),))
BRIEF = bench(policy=TRAINED, sampling=Sampling(temperature=0.0, max_tokens=16), max_tries=2)  # it judges itself
ASKED, LOOKING, PLACE = "test/asked-judge-v0", "test/looking-judge-v0", "test/judges-place-v0"


def failure_of_the_judge(outcome: Outcome) -> str:
    """Why a member has no score."""
    assert (outcome.status, outcome.score, outcome.reward) == (Status.FAILED, None, None)
    assert outcome.failure is not None
    assert outcome.failure.boundary is Boundary.JUDGE
    return outcome.failure.message


async def test_smollm2_gives_no_verdict_and_that_is_never_a_reward(tmp_path: Path) -> None:
    environment(ASKED, tasks=TASKS)(lambda: SingleTurn(RubricJudge(RUBRIC, BRIEF)))
    environment(LOOKING, tasks=TASKS)(lambda: SingleTurn(AgentJudge(PLACE, RUBRIC, bench=BRIEF)))
    environment(PLACE, tasks=TASKS)(lambda: SingleTurn(finished))
    answer = Sampling(max_tokens=4)
    job = envhub.Job((ASKED, LOOKING), k=1, max_tries=1, sampling=answer, limits=Limits(max_turns=4))
    result = await envhub.play(job, envhub.Settings(database=str(tmp_path / "judges.db"), engine="embedded"))
    asked, looking = (group.outcomes[0] for group in result.groups)
    assert "gave no verdict in 2 replies; of the last one: it has no JSON object" in failure_of_the_judge(asked)
    assert asked.usage.turns == 3
    assert f"2 rollouts of '{PLACE}' gave no verdict" in failure_of_the_judge(looking)
