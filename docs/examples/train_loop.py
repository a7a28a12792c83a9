"""A training loop of ours: rollouts, feed, eq. 1 of the K2.5 report, new weights, in one process. Extras: torch, serve.

    python docs/examples/train_loop.py sums          # the same again after a kill: it goes on

The platform runs in a thread of its own: the engine `transformers` samples, the feed delivers over gRPC. The main
thread is the trainer, as it could stand elsewhere: it leases groups, takes a step on eq. 1 of arXiv:2602.02276 §4.4.2,
and puts the weights into the engine in the middle of whatever that generates. What is cut so goes on from its tokens
under the new version.

Every `--save-every` steps it writes a checkpoint, and acks what went into it only then. What was trained after the last
checkpoint is undone by a kill, and delivered again: no group is lost, and none is in the weights twice.
"""

import argparse
import sys
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from itertools import islice
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import torch
from anyio.abc import TaskGroup
from anyio.from_thread import BlockingPortal, start_blocking_portal

import envhub
from envhub import Environment, Job, Sampling, Settings, SingleTurn
from envhub.app import LOOP, Run, has_run, open_run, open_sandboxes
from envhub.app.supply import begin_supply
from envhub.contracts.engine import EngineOptions
from envhub.contracts.environment import Resume
from envhub.contracts.ids import TRAINED, PolicyVersion, RunId
from envhub.contracts.members import MemberState
from envhub.engines.embedded import default_weights
from envhub.engines.transformers import device_of, read_model
from envhub.environments.arithmetic import one_digit_sums
from envhub.errors import EnvhubError, leaves
from envhub.feed.client import FeedClient, TrainerGroup
from envhub.trainers.batch import TokenBatch
from envhub.trainers.checkpoint import Checkpoint
from envhub.trainers.figures import k25_figures
from envhub.trainers.layout import padded, put, shifted
from envhub.trainers.objective import K25Settings
from envhub.trainers.step_log import StepLog
from envhub.trainers.torch_objective import collate, k25_loss, token_logprobs
from judges import number

RUN_ID = RunId("train-loop")
K25 = K25Settings(log_low=-0.7, log_high=0.7, tau=1e-3)
LOST = (MemberState.FAILED, MemberState.CANCELLED, MemberState.DROPPED)


@envhub.environment("demo/plain-sums-v0", tasks=one_digit_sums, resume=Resume.RECORDS)
def plain_sums() -> Environment:
    """One-digit sums without an example: SmolLM2-135M begins at 0.19."""
    return SingleTurn(number)


class Trainer:
    """The model under training, after `step` steps on the groups in `cursor`: as its checkpoint says, at first."""

    def __init__(self, options: argparse.Namespace) -> None:
        device = device_of(options.device)
        weights = Path(options.weights) if options.weights else default_weights()
        self.model: Any = read_model(weights, torch.float32, device)
        self._optimizer = torch.optim.AdamW(self.model.parameters(), options.lr, betas=(0.9, 0.95), weight_decay=0.0)
        self._bfloat16 = torch.autocast(device.type, torch.bfloat16, enabled=options.dtype == "bfloat16")
        self._rows = options.rows
        self._checkpoint = Checkpoint(options.folder / "checkpoint.pt", self.model, self._optimizer)
        self.step, self.cursor = self._checkpoint.load()

    def train(self, groups: Sequence[TrainerGroup], newest: PolicyVersion) -> dict[str, float]:
        """Takes a step on eq. 1; what it found before it. Nothing, and no step, where no token of the groups trains."""
        batch = TokenBatch.of(groups)
        if not batch.trainable.any():
            return {}
        new_logprobs = np.zeros_like(batch.logprobs)
        places = padded(batch)
        for start in range(0, len(places), self._rows):
            inputs, targets = shifted(batch, places[start : start + self._rows])
            tokens = collate(batch, (inputs, targets), K25, device=self.model.device)
            with self._bfloat16:
                logits = self.model(tokens.inputs, attention_mask=tokens.present, position_ids=tokens.positions).logits
            logprobs = token_logprobs(logits, tokens)
            k25_loss(logprobs, tokens, K25).backward()
            put(new_logprobs, targets, logprobs.detach().double().cpu().numpy())
        torch.nn.utils.clip_grad_norm_(self.model.parameters(), 1.0)
        self._optimizer.step()
        self._optimizer.zero_grad()
        self.step += 1
        rewards = np.concatenate([group.rewards for group in groups])
        return {"reward": float(rewards.mean()), **k25_figures(batch, new_logprobs, newest, K25)}

    def save(self) -> None:
        self._checkpoint.save(self.step, self.cursor)


def learn(
    trainer: Trainer, feed: FeedClient, run: Run, tasks: TaskGroup, portal: BlockingPortal, options: argparse.Namespace
) -> None:
    """Trains on all groups of the run."""
    state = portal.call(run.manager.state)
    version = state.versions.get(TRAINED, PolicyVersion(0))
    if version or trainer.step:  # an earlier process was here: weights may go back, versions never do
        version = publish(trainer, version, feed, run, portal)
    submitted = state.members.submitted // options.k
    lost = sum(map(state.members.of, LOST)) // options.k  # others make up for these groups
    waiting = submitted - lost - len(feed.cursor)
    requests = job_of(options, lost).requests(options.environment, seed=0)[submitted:]
    places = (1 + options.ahead) * options.prompts - waiting  # below 0 where a kill has undone steps
    room = portal.call(begin_supply, run, tasks, requests, places)

    log = StepLog(options.folder / "steps.jsonl", trainer.step)
    log.lap("saved_s")
    leases = feed.groups(credit=2 * options.prompts)
    while step := list(islice(leases, options.prompts)):
        log.lap("waited_s")
        figures = trainer.train([lease.group for lease in step], version)
        log.lap("train_s")
        if figures:
            version = publish(trainer, version, feed, run, portal)
        for lease in step:
            lease.trained()
            portal.call(room.release)
        log.lap("update_s")
        numbers = [lease.group.number for lease in step]
        if not figures:
            print(f"no step on groups {numbers}: none of their tokens trains", flush=True)
            continue
        print(log.write({"step": trainer.step, "version": version, **figures}, numbers), flush=True)
        if trainer.step % options.save_every == 0:
            trainer.save()
            feed.ack_trained()
        log.lap("saved_s")  # told with the next step
    trainer.save()
    feed.ack_trained()


def publish(
    trainer: Trainer, newest: PolicyVersion, feed: FeedClient, run: Run, portal: BlockingPortal
) -> PolicyVersion:
    """Puts the weights into the engine, while what it generates is held with its tokens; their version."""
    version = PolicyVersion(newest + 1)
    feed.begin_update(version)
    try:
        portal.call(run.model.engine.load_weights, trainer.model.state_dict(), version)
    finally:
        feed.finish_update(version)
    return version


@asynccontextmanager
async def open_platform(options: argparse.Namespace) -> AsyncIterator[tuple[Run, TaskGroup]]:
    """The run in that folder, a new one or one that goes on; and tasks that end with it."""
    await job_of(options).check()
    database = str(options.folder / "run.db")
    engine = EngineOptions(options.weights, max_batch=options.max_batch, dtype=options.dtype, device=options.device)
    settings = Settings(
        database,
        RUN_ID,
        resume=await has_run(database, RUN_ID),
        engine="transformers",
        engine_options=engine,
        max_running=options.max_batch,
        feed="127.0.0.1:0",
    )
    async with (
        open_sandboxes("auto") as backend,
        open_run(settings, None, backend) as run,
        anyio.create_task_group() as tasks,
    ):
        yield run, tasks


def job_of(options: argparse.Namespace, lost: int = 0) -> Job:
    sampling = Sampling(temperature=1.0, max_tokens=options.max_tokens)
    return Job((options.environment,), options.steps * options.prompts + lost, options.k, sampling=sampling)


def count(text: str) -> int:
    if not text.isdecimal() or int(text) == 0:
        raise argparse.ArgumentTypeError(f"{text} must be a whole number, at least 1")
    return int(text)


def parsed() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description="Train a model on rollouts of its own, by eq. 1 of arXiv:2602.02276.")
    parser.add_argument("folder", type=Path, help="of the run: its database, checkpoint and log")
    parser.add_argument("--environment", default="demo/plain-sums-v0")
    parser.add_argument("--weights", default="", help="a directory or .gguf file [SmolLM2-135M-Instruct]")
    parser.add_argument("--device", default="", help="cpu, cuda, cuda:1 [a GPU where there is one]")
    parser.add_argument("--dtype", default="float32", choices=("float32", "bfloat16"))
    parser.add_argument("--steps", type=count, default=100)
    parser.add_argument("--prompts", type=count, default=4, help="groups a step")
    parser.add_argument("--k", type=count, default=8, help="rollouts a group")
    parser.add_argument(
        "--ahead", type=int, choices=range(9), default=1, help="steps that are sampled ahead of the one that trains"
    )
    parser.add_argument("--max-tokens", type=count, default=32, help="of an answer")
    parser.add_argument("--max-batch", type=count, default=64, help="rollouts that sample at once")
    parser.add_argument("--rows", type=count, default=16, help="that train at once: gradients add up")
    parser.add_argument("--lr", type=float, default=1e-5)
    parser.add_argument("--save-every", type=count, default=5, help="steps")
    return parser.parse_args()


def main() -> None:
    options = parsed()
    options.folder.mkdir(parents=True, exist_ok=True)
    try:
        trainer = Trainer(options)
        with (
            start_blocking_portal(backend_options=LOOP) as portal,
            portal.wrap_async_context_manager(open_platform(options)) as (run, tasks),
            FeedClient(run.feed_address, consumer="trainer", cursor=trainer.cursor, reconnect_s=5.0) as feed,
        ):
            learn(trainer, feed, run, tasks, portal, options)
    except* EnvhubError as errors:
        sys.exit(f"error: {next(leaves(errors))}")
    except* KeyboardInterrupt:
        sys.exit("stopped; the same command goes on from the last checkpoint")


if __name__ == "__main__":
    main()
