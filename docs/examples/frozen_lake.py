"""Example 3: a Gymnasium environment, played in words. FrozenLake-v1 becomes demo/frozen-lake-v0."""

import re
from functools import partial

import gymnasium

import envhub
from envhub import Environment, GymnasiumEnvironment, Task

LAKE = ["SFFF", "FHFH", "FFFH", "HFFG"]
MOVES = {"left": 0, "down": 1, "right": 2, "up": 3}
RULES = "Cross the frozen lake (F) from S to the goal G. Don't fall into a hole (H). You are X."


def render(position: int) -> str:
    cells = [cell for row in LAKE for cell in row]
    cells[position] = "X"
    rows = ["".join(cells[start : start + 4]) for start in range(0, 16, 4)]
    return "\n".join([*rows, "Move left, down, right or up?"])


def parse(text: str) -> int:
    for word in re.findall(r"[a-z]+", text.lower()):
        if word in MOVES:
            return MOVES[word]
    raise ValueError("Say left, down, right or up")


@envhub.environment("demo/frozen-lake-v0", tasks=[Task.ask(RULES, id="4x4")])
def frozen_lake() -> Environment:
    """FrozenLake-v1 as text; the rewards are Gymnasium's own."""
    make = partial(gymnasium.make, "FrozenLake-v1", desc=LAKE, is_slippery=False)
    return GymnasiumEnvironment(make, render=render, parse=parse)


def main(**options):
    result = envhub.run("demo/frozen-lake-v0", k=4, **options)
    for group in result.groups:
        print(group.task.id, group.rewards)


if __name__ == "__main__":
    main()
