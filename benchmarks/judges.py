"""What judging costs: batches against the bare arithmetic, composition, kills at the timeout, the loop meanwhile.

A floor reads the same JSON and does the same arithmetic with numpy, scipy, rapidfuzz or a regular expression, and
nothing else: no bad input is noticed, no score explains itself. Times are of the CPU, the best of several rounds, but
for kills and the loop's lag, which are of the wall.

    python -m benchmarks.judges [--quick]
"""

import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))  # before this folder, in which `judges` is this very file

import argparse
import json
import os
import time
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import partial

import anyio
import numpy as np
from anyio.lowlevel import checkpoint
from PIL import Image, ImageDraw
from skimage.draw import polygon2mask

from benchmarks.judge_parts.floors import bare_boxes, bare_number, bare_ocr, bare_points, bare_text
from benchmarks.judge_parts.runaway import holds_memory, sleeps
from envhub.contracts.ids import TaskId
from envhub.contracts.messages import Message
from envhub.contracts.score import JudgeInput, Score
from envhub.contracts.task import Task
from envhub.rollouts.garbage import rare_collections
from envhub.rollouts.judging import REWARD_THREADS
from envhub.testing.judge_suite import answered
from judges import GroundingF1, InProcess, Maths, PointsF1, TextSimilarity, component, exact, gate, number
from judges.instructions import NoCommas, StartsWith, Words, followed, written
from judges.polygons import mask_iou, rasterised
from judges.processes import TimedOut

SIDE = 1024
IN_FLIGHT = 10_000
TIMEOUT_S = 0.5
RNG = np.random.default_rng(0)
Figure = dict[str, object]


def one(input: JudgeInput) -> float:
    return 1.0


def seconds(call: Callable[[], object], rounds: int) -> float:
    """Of the CPU, in the best round."""
    took = []
    for _ in range(rounds):
        began = time.process_time()
        call()
        took.append(time.process_time() - began)
    return min(took)


def boxes() -> list[list[float]]:
    corners = RNG.uniform(0, 100, (8, 2))
    return np.concatenate([corners, corners + RNG.uniform(1, 50, (8, 2))], axis=1).tolist()  # type: ignore[no-any-return]


def points() -> list[list[float]]:
    return RNG.uniform(0, 100, (8, 2)).tolist()  # type: ignore[no-any-return]


Batch = tuple[str, Callable[[JudgeInput], Score], Callable[[str, object], float], list[JudgeInput]]


def batches(count: int) -> list[Batch]:
    def of(pairs: Sequence[tuple[object, str]]) -> list[JudgeInput]:
        return [answered(Task.ask("?", answer), text) for answer, text in pairs]

    words = [" ".join("".join(RNG.choice([*"abcdefgh "], 300)).split()) for _ in range(count)]
    return [
        ("text", exact, bare_text, of([(word, word) for word in words])),
        ("number", number, bare_number, of([(n, f"I think that the answer is {n}.") for n in range(count)])),
        ("ocr", TextSimilarity(), bare_ocr, of([(word, word[::-1]) for word in words])),
        ("boxes", GroundingF1(), bare_boxes, of([(boxes(), json.dumps(boxes())) for _ in range(count)])),
        ("points", PointsF1(5), bare_points, of([(points(), json.dumps(points())) for _ in range(count)])),
    ]


def batch_figures(count: int, rounds: int) -> list[Figure]:
    figures = []
    for name, judge, bare, inputs in batches(count):
        ours = seconds(lambda judge=judge, inputs=inputs: [judge(input) for input in inputs], rounds)  # type: ignore[misc]
        pairs = [(input.response, input.task.answer) for input in inputs]
        floor = seconds(lambda bare=bare, pairs=pairs: [bare(*pair) for pair in pairs], rounds)  # type: ignore[misc]
        added = (ours - floor) / count * 1e6
        figures.append(
            figure(f"batch_{name}", ours / count * 1e6, "us an answer", "<= 1.5x floor", ok=ours <= 1.5 * floor)
            | {"floor": round(floor / count * 1e6, 2), "ratio": round(ours / floor, 2)}
        )
        figures.append(figure(f"added_{name}", added, "us a call", "<= 20", ok=added <= 20))
    return figures


def composing(rounds: int) -> Figure:
    parts = [component(f"c{place}", one) for place in range(10)]
    reward = gate(parts[0]) * sum((0.1 * part for part in parts[2:]), 0.1 * parts[1])
    input = answered(Task.ask("?", 7), "7")
    us = seconds(lambda: [reward(input) for _ in range(2000)], rounds) / 2000 * 1e6
    return figure("compose_10_components", us, "us", "<= 20", ok=us <= 20)


def instructions(rounds: int) -> Figure:
    """What three instructions of a task cost over the bare look at the response."""
    asked = [NoCommas(), Words(2, 500), StartsWith("Well")]
    task = Task(TaskId("sea"), (Message.user("?"),), metadata={"instructions": [written(each) for each in asked]})
    text = "Well then, it is so and so. " * 8
    input = answered(task, text)
    ours = seconds(lambda: [followed(input) for _ in range(1000)], rounds) * 1e3
    floor = seconds(lambda: [[each(text) for each in asked] for _ in range(1000)], rounds) * 1e3
    added = ours - floor
    return figure("added_followed", added, "us a call", "<= 20", ok=added <= 20) | {"floor": round(floor, 2)}


def polygons(rounds: int) -> list[Figure]:
    """IoU of two round polygons; the floors fill and combine masks of the same size."""
    turns = np.linspace(0, 2 * np.pi, 60, endpoint=False)
    left = np.stack([SIDE / 2 + 300 * np.cos(turns), SIDE / 2 + 300 * np.sin(turns)], axis=1)
    pair, shape = (left, left + 20), (SIDE, SIDE)

    def pillow(polygon: np.ndarray) -> np.ndarray:
        image = Image.new("1", shape)
        ImageDraw.Draw(image).polygon([(float(x), float(y)) for x, y in polygon], fill=1)
        return np.asarray(image)

    def bare(fill: Callable[[np.ndarray], np.ndarray]) -> float:
        a, b = map(fill, pair)
        return float((a & b).sum() / (a | b).sum())

    ours = seconds(lambda: mask_iou(*[rasterised([polygon], shape) for polygon in pair]), rounds)
    floors = {
        "pillow": seconds(partial(bare, pillow), rounds),
        "skimage": seconds(partial(bare, lambda polygon: polygon2mask(shape, polygon[:, ::-1] - 0.5)), 1),
    }
    return [
        figure(f"polygon_iou_over_{name}", ours * 1e3, "ms", "<= 1.3x floor", ok=ours <= 1.3 * floor)
        | {"floor": round(floor * 1e3, 2), "ratio": round(ours / floor, 2)}
        for name, floor in floors.items()
    ]


def runaway_maths() -> Figure:
    """How long after its timeout a judge of mathematics that never ends has ended."""
    judge, task = Maths(timeout_s=TIMEOUT_S), Task.ask("?", 7)
    judge(answered(task, "7"))  # SymPy is imported
    late = [late_ms(lambda: judge(answered(task, r"\boxed{9^{9^{9^{9}}}}"))) for _ in range(3)]
    return figure("runaway_maths_is_late_by", max(late), "ms", "<= 100, with a check of the task", ok=max(late) <= 100)


def runaway_functions() -> list[Figure]:
    """How long after its timeout a process is dead that sleeps, or that holds memory, once such processes run."""
    figures, input = [], answered(Task.ask("?", 7), "7")

    def killed(judge: InProcess) -> None:
        with suppress(TimedOut):
            anyio.run(judge.score, input, None)

    for function in (sleeps, holds_memory):
        judge = InProcess(function, timeout_s=TIMEOUT_S)
        killed(judge)  # the first call starts the process that forks the others
        late = max(late_ms(partial(killed, judge)) for _ in range(3))
        figures.append(figure(f"runaway_that_{function.__name__}_is_late_by", late, "ms", "<= 100", ok=late <= 100))
    return figures


def late_ms(call: Callable[[], object]) -> float:
    """By how much a call took longer than the timeout."""
    began = time.perf_counter()
    call()
    return (time.perf_counter() - began - TIMEOUT_S) * 1e3


async def in_flight() -> Figure:
    """The loop's lag while many reward functions wait for their threads and run. Garbage is collected as in every run:
    with Python's defaults, a full collection that walks 10,000 tasks is all of the lag there is."""
    reward = 0.8 * component("correct", number) + 0.2 * component("exact", exact)
    input, lags = answered(Task.ask("?", 7), "It is 7. " * 50), []

    async def tick() -> None:
        while True:
            began = time.perf_counter()
            await anyio.sleep(0.005)
            lags.append(time.perf_counter() - began - 0.005)

    async def judged() -> None:
        await REWARD_THREADS.run(partial(reward, input))

    with rare_collections():
        async with anyio.create_task_group() as ticking:
            ticking.start_soon(tick)
            async with anyio.create_task_group() as judging:
                for number_started in range(IN_FLIGHT):
                    judging.start_soon(judged)
                    if number_started % 50 == 0:
                        await checkpoint()
            ticking.cancel_scope.cancel()
    lag = float(np.percentile(lags, 99)) * 1e3
    return figure(f"loop_lag_p99_of_{IN_FLIGHT}_judgings", lag, "ms", "< 20", ok=lag < 20)


def figure(name: str, value: float, unit: str, goal: str, *, ok: bool) -> Figure:
    return {"name": name, "value": round(value, 2), "unit": unit, "goal": goal, "ok": ok}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="three rounds in place of ten: under 45 s")
    rounds = 3 if parser.parse_args().quick else 10
    figures = []
    for name, measure in {
        "composition": lambda: [composing(rounds)],
        "batches of 1,000": lambda: batch_figures(1000, rounds),
        "polygons": lambda: polygons(rounds),
        "instructions": lambda: [instructions(rounds)],
        "runaway judges": lambda: [runaway_maths(), *runaway_functions()],
        "judgings in flight": lambda: [anyio.run(in_flight)],
    }.items():
        print(name, file=sys.stderr)
        figures += measure()
    print(json.dumps({"benchmark": "judges", "machine": machine(), "figures": figures}))


def machine() -> str:
    return f"{os.cpu_count()} cores, Python {sys.version.split()[0]}, load {os.getloadavg()[0]:.1f}"


if __name__ == "__main__":
    main()
