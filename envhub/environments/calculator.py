"""envhub/calculator-v0: sums and products of two-digit numbers, with Python at hand."""

from random import Random

from envhub.contracts.environment import Environment
from envhub.contracts.messages import Message, ToolCall
from envhub.contracts.task import Task
from envhub.environments.tool_environment import ToolEnvironment
from envhub.registry import environment
from envhub.toolsets.python import PythonToolset
from judges import number


def example(index: int, expression: str, result: str) -> tuple[Message, ...]:
    """A conversation that shows how to call the tool and what to answer then."""
    call = ToolCall(f"example-{index}", "python", {"code": expression})
    return (
        Message.user(f"What is {expression}?"),
        Message.assistant("", (call,)),
        Message.tool(result, call.id),
        Message.assistant(result),
    )


# A small model calls a tool by example rather than by description: SmolLM2-135M at temperature 1 calls this one in 10 %
# of its first answers after one example, in 45 % after two, in 55 % after three.
EXAMPLES = (*example(0, "23 + 48", "71"), *example(1, "31 * 12", "372"), *example(2, "64 + 19", "83"))


def sums_and_products() -> list[Task]:
    """100 tasks, always the same: sums and products in turn."""
    random = Random(0)
    pairs = random.sample([(a, b) for a in range(10, 100) for b in range(10, 100)], 100)
    return [
        Task.ask(f"What is {a} * {b}?", a * b, id=f"{a}*{b}")
        if index % 2
        else Task.ask(f"What is {a} + {b}?", a + b, id=f"{a}+{b}")
        for index, (a, b) in enumerate(pairs)
    ]


@environment("envhub/calculator-v0", tasks=sums_and_products, needs_sandbox=True)
def calculator() -> Environment:
    """Two-digit sums and products, worked out by running Python in a sandbox."""
    return ToolEnvironment(PythonToolset, number, examples=EXAMPLES)
