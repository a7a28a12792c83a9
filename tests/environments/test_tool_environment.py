import anyio
import pytest

from envhub.contracts.ids import EnvironmentId, TaskId
from envhub.contracts.messages import Message, Role, ToolCall
from envhub.contracts.policy import Action
from envhub.contracts.rollout import EnvironmentRef, RolloutRequest
from envhub.contracts.task import Task
from envhub.environments import SingleTurn, ToolEnvironment
from envhub.environments.standalone import StandaloneContext
from envhub.errors import SandboxFault, UsageError
from envhub.toolsets import Toolset, tool
from judges import number

pytestmark = pytest.mark.anyio
TASK = Task.ask("3 + 4?", 7)
CONTEXT = StandaloneContext(RolloutRequest(EnvironmentRef(EnvironmentId("test/it-v0")), TASK))


class Meeting(Toolset):
    """Two calls that end only when both have begun."""

    opened = 0
    closed = 0

    def __init__(self) -> None:
        self.present = 0
        self.all_here = anyio.Event()

    async def open(self, ctx: StandaloneContext) -> None:
        await super().open(ctx)
        Meeting.opened += 1

    async def close(self) -> None:
        Meeting.closed += 1

    @tool(timeout_s=5)
    async def meet(self, name: str) -> str:
        self.present += 1
        if self.present == 2:
            self.all_here.set()
        await self.all_here.wait()
        return f"{name} met"

    @tool
    async def break_down(self) -> str:
        raise SandboxFault("the sandbox died")


def acts(*calls: ToolCall) -> Action:
    return Action(Message.assistant("", calls))


async def test_opening_is_system_examples_task():
    environment = ToolEnvironment(Meeting, number, system="Be brief.", examples=[Message.user("1 + 1?")])
    observation = await environment.reset(TASK, seed=0, ctx=CONTEXT)
    assert observation.messages == (Message.system("Be brief."), Message.user("1 + 1?"), *TASK.prompt)


async def test_system_message_of_the_task_comes_first_and_alone():
    task = Task(TaskId("t"), (Message.system("Mine."), Message.user("3 + 4?")))
    observation = await SingleTurn(number, examples=[Message.user("1?")]).reset(task, seed=0, ctx=CONTEXT)
    assert [message.content for message in observation.messages] == ["Mine.", "1?", "3 + 4?"]
    with pytest.raises(UsageError, match="task 't' and its environment both have a system message"):
        await SingleTurn(number, system="Yours.").reset(task, seed=0, ctx=CONTEXT)


async def test_calls_run_side_by_side_and_are_answered_in_order():
    environment = ToolEnvironment(Meeting, number)
    await environment.reset(TASK, seed=0, ctx=CONTEXT)
    result = await environment.step(
        acts(ToolCall("a", "meet", {"name": "Ann"}), ToolCall("x", "nothing"), ToolCall("b", "meet", {"name": "Bob"}))
    )
    assert [(each.role, each.tool_call_id) for each in result.observation.messages] == [
        (Role.TOOL, "a"),
        (Role.TOOL, "x"),
        (Role.TOOL, "b"),
    ]
    assert result.observation.messages[0].content == "Ann met"
    assert result.observation.messages[2].content == "Bob met"
    assert not result.terminated


async def test_action_without_calls_ends_the_episode():
    environment = ToolEnvironment(Meeting, number)
    await environment.reset(TASK, seed=0, ctx=CONTEXT)
    assert (await environment.step(acts())).terminated


async def test_fault_of_one_call_passes_as_itself():
    environment = ToolEnvironment(Meeting, number)
    await environment.reset(TASK, seed=0, ctx=CONTEXT)
    with pytest.raises(SandboxFault, match="the sandbox died"):
        await environment.step(acts(ToolCall("a", "meet", {"name": "Ann"}), ToolCall("b", "break_down")))


async def test_toolset_is_opened_and_closed_once_an_episode():
    Meeting.opened = Meeting.closed = 0
    environment = ToolEnvironment(Meeting, number)
    await environment.close()
    assert (Meeting.opened, Meeting.closed) == (0, 0)
    await environment.reset(TASK, seed=0, ctx=CONTEXT)
    await environment.reset(TASK, seed=0, ctx=CONTEXT)
    await environment.close()
    await environment.close()
    assert (Meeting.opened, Meeting.closed) == (2, 2)


async def test_function_as_judge_of_a_class_stays_a_function():
    class Mine(SingleTurn):
        judge = number

        def __init__(self) -> None: ...

    assert Mine().judge is number


def test_task_without_a_prompt_is_refused():
    with pytest.raises(UsageError, match="task 't' has no prompt"):
        Task(TaskId("t"), (Message.user("  "),))
