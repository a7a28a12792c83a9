"""Diversified environments: the same seed gives the same prompts, and gold answers stay valid under every transform."""

import json
from collections.abc import Iterator, Sequence
from dataclasses import replace
from random import Random

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from envhub.contracts.environment import Environment
from envhub.contracts.ids import EnvironmentId, TaskId
from envhub.contracts.messages import Message, Role, ToolCall
from envhub.contracts.score import JudgeInput
from envhub.contracts.task import Task
from envhub.environments import SingleTurn, ToolEnvironment
from envhub.environments.check import check
from envhub.environments.standalone import StandaloneEpisode
from envhub.errors import UnknownName, UsageError
from envhub.prompts import (
    FORMS,
    Distractors,
    FewShot,
    FormattingNoise,
    Instructed,
    OutputForm,
    Persona,
    RenameTools,
    ReorderTools,
    RestyleSchemas,
    SystemPrompt,
    Template,
    Transform,
    diversified,
    diversify,
    gold_response,
    lineage,
)
from envhub.registry import EnvironmentSpec, environments
from envhub.toolsets import Toolset, tool
from judges import exact, number

pytestmark = pytest.mark.anyio

BUILT_IN = tuple(
    f"envhub/{name}-v0"
    for name in (
        "arithmetic", "bulk-download", "calculator", "deep-search", "delegate", "long-documents", "swarm-sums",
        "wide-search",
    )
)  # fmt: skip
CITIES = tuple(Task.ask(f"What is the capital of {land}?", city) for land, city in {
    "France": "Paris", "Peru": "Lima", "Japan": "Tokyo", "the Netherlands": "The Hague", "Chad": "N'Djamena",
}.items())  # fmt: skip
PLAIN: tuple[Transform, ...] = (
    SystemPrompt(),
    Persona(),
    Template(),
    Distractors(2),
    FormattingNoise(0.5),
    RenameTools(),
    ReorderTools(),
    RestyleSchemas(),
)
DEMANDING: tuple[Transform, ...] = (OutputForm(), Instructed(2))
EVERY: tuple[Transform, ...] = (*PLAIN[:3], *DEMANDING, *PLAIN[3:])


class Desk(Toolset):
    @tool
    def add_numbers(self, first_number: int, second_number: int = 1) -> int:
        """Add two numbers.

        Args:
            first_number: one of them.
            second_number: the other.
        """
        return first_number + second_number

    @tool
    def say_hello(self) -> str:
        """Greet."""
        return "hello"


CALL = ToolCall("example", "add_numbers", {"first_number": 1, "second_number": 2})
EXAMPLES = (Message.user("1 + 2?"), Message.assistant("", (CALL,)), Message.tool("3", CALL.id), Message.assistant("3"))


@pytest.fixture
def spec(monkeypatch: pytest.MonkeyPatch) -> Iterator[EnvironmentSpec]:
    """Tools, a system message, examples; and a registry for one test."""
    for name in BUILT_IN:  # an entry point registers its environment once, when it is first asked for
        environments.get(name)
    monkeypatch.setattr(environments, "_known", dict(environments._known))
    tasks = [Task.ask(f"What is {a} + {a}?", 2 * a) for a in range(5)]
    made = EnvironmentSpec(
        EnvironmentId("test/desk-v0"),
        lambda: ToolEnvironment(Desk, number, system="Use the tools.", examples=EXAMPLES),
        tasks,
        "",
        False,
        None,
    )
    environments.register(made.id, made)
    yield made


def tasks_of(name: str) -> Sequence[Task]:
    return environments.get(name).load_tasks()


def judged(spec: EnvironmentSpec, task: Task, text: str) -> float:
    """What the environment's judge, diversified, gives a response."""
    environment = environments.get(spec.id).factory()
    assert environment.judge is not None and not hasattr(environment.judge, "score")
    given = environment.judge(JudgeInput(task, (*task.prompt, Message.assistant(text)), given=len(task.prompt)))
    return given if isinstance(given, float) else given.scalar


@pytest.mark.parametrize("transform", [*PLAIN, *DEMANDING, None], ids=lambda each: type(each).__name__)
@pytest.mark.parametrize("name", BUILT_IN)
def test_gold_answers_of_all_built_in_tasks_stay_valid(name: str, transform: Transform | None, spec: EnvironmentSpec):
    transforms = [transform] if transform else EVERY
    made = diversified(name, transforms, id="test/diverse-v0", seed=3)
    tasks = made.load_tasks()
    assert [task.answer for task in tasks] == [task.answer for task in tasks_of(name)]
    for task in tasks:
        gold = gold_response(task)
        assert gold is not None
        assert judged(made, task, gold) == 1.0, (task, gold)


@pytest.mark.parametrize("form", FORMS)
def test_text_answers_stay_valid_in_every_form_and_under_instructions(form: str, spec: EnvironmentSpec):
    quiz = EnvironmentSpec(EnvironmentId("test/cities-v0"), lambda: SingleTurn(exact), CITIES, "", False, None)
    environments.register(quiz.id, quiz)
    transforms = (OutputForm((form,)), FewShot(CITIES, 2), Instructed(3), *PLAIN)
    made = diversified("test/cities-v0", transforms, id="test/diverse-v0", variants=10)
    for task in made.load_tasks():
        gold = gold_response(task)
        assert gold is not None and judged(made, task, gold) == 1.0, (task, gold)
        assert judged(made, task, "Berlin") == 0.0


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30)
@given(seed=st.integers(0, 2**32), transforms=st.permutations(PLAIN))
def test_the_same_seed_gives_the_same_prompts_whatever_else_is_made(seed: int, transforms: list[Transform]):
    first = list(diversify(CITIES, transforms, seed=seed, variants=2))
    assert first == list(diversify(CITIES, transforms, seed=seed, variants=2))
    assert first[4:6] == list(diversify(CITIES[2:3], transforms, seed=seed, variants=2))
    assert len({task.id for task in first}) == 2 * len(CITIES)
    assert json.loads(json.dumps(first[0].metadata)) == first[0].metadata


def test_seeds_and_variants_differ():
    one, two = diversify(CITIES[:1], EVERY, seed=0, variants=2)
    assert one.prompt != two.prompt
    assert next(diversify(CITIES[:1], EVERY, seed=1)).prompt != one.prompt


def test_another_transform_changes_nothing_that_those_before_it_drew():
    short, long = (next(diversify(CITIES[:1], chain, seed=0)) for chain in (PLAIN[:2], PLAIN))
    assert lineage(long)[: len(lineage(short))] == lineage(short)


def test_how_much_one_transform_draws_changes_nothing_for_those_after_it():
    one, three = (list(diversify(CITIES, [Distractors(count), Persona()], seed=0)) for count in (1, 3))
    assert [lineage(task)[-1] for task in one] == [lineage(task)[-1] for task in three]


def test_lineage_says_what_was_drawn_and_from_what():
    (task,) = diversify(CITIES[:1], [Persona(("a poet",)), OutputForm(("boxed",))], seed=7)
    assert lineage(task) == (
        {"transform": "Variant", "of": CITIES[0].id, "number": 0, "seed": 7},
        {"transform": "Persona", "persona": "a poet"},
        {"transform": "OutputForm", "form": "boxed"},
    )
    assert task.prompt[0] == Message.system("You are a poet.")
    assert "\\boxed{" in task.prompt[1].content
    assert gold_response(task) == "\\boxed{Paris}"


def test_pictures_stay_where_they_stood():
    gif = b"GIF89a\x01\x00\x01\x00\x80\x00\x00" + b"\x00\x00\x00\xff\xff\xff;"
    shown = Task(TaskId("t"), (Message.user("What is this?", gif),), "a dot")
    (task,) = diversify([shown], [Template(("Hello! {question} Thanks.",)), FormattingNoise(1)], seed=0)
    (image,) = task.prompt[0].images
    assert task.prompt[0].content == "Hello! What is this? Thanks."
    assert task.prompt[0].content[: image.at] == "Hello! What is this?"


def test_noise_leaves_code_and_data_as_they_are():
    text = 'Say it\nDelegate {"sums": ["2 + 6"]}\n    return a b\n`a b`'
    (task,) = diversify([Task.ask(text)], [FormattingNoise(1)], seed=0)
    assert task.prompt[0].content.strip() == text.replace("Say it", "Say  it")


def test_examples_are_others_and_in_the_form_that_is_asked_for():
    for task in diversify(CITIES, [OutputForm(("tagged",)), FewShot(CITIES, 3)], seed=0):
        examples, asked = task.prompt[:-1], task.prompt[-1]
        assert [message.role for message in examples] == [Role.USER, Role.ASSISTANT] * 3
        assert len({message.content for message in examples}) == 6
        assert str(task.answer) not in str(examples) and asked.content.startswith("What is the capital")
        assert all(message.content.startswith("<answer>") for message in examples[1::2])


async def test_tools_in_another_dress_are_understood(spec: EnvironmentSpec):
    made = diversified(spec.id, PLAIN, id="test/diverse-v0", variants=20)
    seen = set()
    for task in made.load_tasks():
        episode = StandaloneEpisode(made)
        observation = await episode.reset(task, seed=0)
        shown = {spec.name: spec for spec in episode.environment.tools}
        assert observation.messages[0].content.startswith("Use the tools.\n\n")
        (example,) = (call for message in observation.messages for call in message.tool_calls)
        schema = shown[example.name].parameters
        assert set(example.arguments) == set(schema["properties"]) and len(example.arguments) == 2
        assert len(schema["required"]) == 1
        seen.add((*shown, *schema["properties"]))
        result = await episode.step(Message.assistant("", (replace(example, id="1"),)))
        assert result.observation.messages[0].content == "3"
        (hello,) = shown.keys() - {example.name}
        result = await episode.step(Message.assistant("", (ToolCall("2", hello),)))
        assert result.observation.messages[0].content == "hello"
        assert (await episode.step(Message.assistant(str(task.answer)))).reward == 1.0
        await episode.close()
    assert len(seen) > 10


async def test_a_name_that_the_model_was_not_told_is_its_mistake(spec: EnvironmentSpec):
    made = diversified(spec.id, [RenameTools(("pascal",))], id="test/diverse-v0")
    episode = StandaloneEpisode(made)
    await episode.reset(made.load_tasks()[0], seed=0)
    result = await episode.step(Message.assistant("", (CALL,)))
    assert result.observation.messages[0].content.startswith("no tool 'add_numbers'; did you mean AddNumbers")


async def test_a_judge_sees_the_tools_by_their_own_names(spec: EnvironmentSpec):
    def called(input: JudgeInput) -> float:
        return float([call.name for message in input.messages for call in message.tool_calls] == ["say_hello"])

    counting = replace(spec, id=EnvironmentId("test/counting-v0"), factory=lambda: ToolEnvironment(Desk, called))
    environments.register(counting.id, counting)
    made = diversified(counting.id, [RenameTools(("numbered",))], id="test/diverse-v0")
    episode = StandaloneEpisode(made)
    await episode.reset(made.load_tasks()[0], seed=0)
    await episode.step(Message.assistant("", (ToolCall("1", "tool_2"),)))
    assert (await episode.step(Message.assistant("done"))).reward == 1.0


async def test_a_judge_of_its_own_kind_is_asked_with_the_answer_alone(spec: EnvironmentSpec):
    class Echo:
        async def score(self, input, ctx):
            from envhub.contracts.score import Score

            return Score(float(input.response == "4"))

    echo = replace(spec, id=EnvironmentId("test/echo-v0"), factory=lambda: SingleTurn(Echo()))
    environments.register(echo.id, echo)
    made = diversified(echo.id, [OutputForm(("tagged",))], id="test/diverse-v0")
    for text, reward in (("So: <answer>4</answer>", 1.0), ("4", 0.0)):
        episode = StandaloneEpisode(made)
        await episode.reset(made.load_tasks()[0], seed=0)
        assert (await episode.step(Message.assistant(text))).reward == reward
    assert episode.score is not None and episode.score.components == {"form": 0.0}


async def test_the_reward_is_the_answer_times_the_share_of_instructions(spec: EnvironmentSpec):
    made = diversified(spec.id, [Instructed(2)], id="test/diverse-v0")
    task = made.load_tasks()[0]
    task = replace(task, metadata={**task.metadata, "instructions": [{"kind": "NoCommas"}, {"kind": "Title"}]})
    assert judged(made, task, "<<Sum>> it is 0") == 1.0
    assert judged(made, task, "it is 0") == 0.5
    assert judged(made, task, "<<Sum>> it is 1") == 0.0


async def test_a_diversified_environment_passes_its_check(spec: EnvironmentSpec):
    report = await check(diversified(spec.id, EVERY, id="test/diverse-v0"))
    assert report.ok, report


def factory(environment: Environment) -> Environment:
    return environment


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (lambda: diversified("test/desk-v0", [], id="test/x-v0"), "no transform is given"),
        (lambda: diversified("test/desk-v0", PLAIN, id="test/x-v0", variants=0), "variants is 0"),
        (lambda: diversified("test/desk-v0", PLAIN, id="x"), "must read \\[namespace/\\]name-vN"),
        (lambda: diversified("test/desk-v0", PLAIN, id="test/desk-v0"), "registered already"),
        (lambda: diversified("test/nothing-v0", PLAIN, id="test/x-v0"), "no environment 'test/nothing-v0'"),
        (lambda: diversified("test/desk-v0", [Instructed(1), OutputForm()], id="test/x-v0"), "let one OutputForm come"),
        (lambda: diversified("test/desk-v0", [Instructed(1)] * 2, id="test/x-v0"), "one Instructed with a larger"),
        (lambda: Template(("no place",)), "must have {question} once"),
        (lambda: Persona(()), "give a list of texts"),
        (lambda: Persona("poet"), "give a list of texts"),
        (lambda: Distractors(0), "count is 0"),
        (lambda: FormattingNoise(2), "rate is 2"),
        (lambda: FewShot(CITIES, 5), "count is 5"),
        (lambda: Instructed(0), "count is 0"),
    ],
)
def test_what_can_not_work_is_refused(make, said: str, spec: EnvironmentSpec):
    with pytest.raises(UsageError, match=said):
        make()


@pytest.mark.parametrize(
    "make", [lambda: OutputForm(("xml",)), lambda: RenameTools(("latin",)), lambda: RestyleSchemas(("x",))]
)
def test_unknown_options_are_named(make):
    with pytest.raises(UnknownName, match="registered: "):
        make()


def test_a_task_without_a_question_is_refused():
    with pytest.raises(UsageError, match="has no message of a user"):
        Template()(Task(TaskId("t"), (Message.system("Hi."),)), Random(0))
