"""Example 2: an environment of your own. The agent guesses a number; each wrong guess is answered with a hint."""

import envhub
from envhub import Action, Environment, Message, Observation, StepResult, Task
from judges.text import last_number

QUESTION = "I am thinking of a number from 1 to 20. Guess it."


@envhub.environment(
    "demo/guess-v0", tasks=[Task.ask(QUESTION, number, id=f"guess-{number}") for number in range(1, 21)]
)
class GuessTheNumber(Environment):
    """Find a number with hints. Every guess costs a little; there is no judge, so the rewards of the steps count."""

    async def reset(self, task: Task, *, seed: int, ctx: envhub.Context) -> Observation:
        self.secret = task.answer
        return Observation(task.prompt)

    async def step(self, action: Action) -> StepResult:
        guess = last_number(action.message.content)
        if guess == self.secret:
            return StepResult(reward=1.0, terminated=True)
        hint = "That is no number." if guess is None else "Higher." if guess < self.secret else "Lower."
        return StepResult(Observation((Message.user(hint),)), reward=-0.05)


def main(**options):
    result = envhub.run("demo/guess-v0", k=4, **options)
    for group in result.groups:
        print(group.task.id, group.rewards)


if __name__ == "__main__":
    main()
