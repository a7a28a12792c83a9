"""Plans: scripted agents as generators, which yield the calls of an action and are sent what their tools answered."""

import re
from collections.abc import Callable, Generator, Sequence
from typing import TypeAlias

from envhub.contracts.messages import ToolCall
from envhub.engines.scripted import Script, ScriptInput
from envhub.tokens.call_forms import HERMES

Plan: TypeAlias = Generator[Sequence[ToolCall], list[str], str]  # at its end: the response


def call(name: str, /, **arguments: object) -> ToolCall:
    return ToolCall("", name, arguments)  # type: ignore[arg-type]


def script_of(plan_for: Callable[[str], Plan]) -> Script:
    """A script that acts after the plan for the user's last message, from the start at every turn."""

    def script(asked: ScriptInput) -> str:
        plan, answers = plan_for(said(asked, "user")[-1]), said(asked, "tool")
        try:
            calls = next(plan)
            while answers:
                given, answers = answers[: len(calls)], answers[len(calls) :]
                calls = plan.send(given)
        except StopIteration as end:
            return str(end.value)
        return HERMES.write(*calls)

    return script


def said(asked: ScriptInput, role: str) -> list[str]:
    """The contents of the conversation's messages of a role."""
    return re.findall(rf"<\|im_start\|>{role}\n(.*?)<\|im_end\|>", asked.prompt, re.DOTALL)
