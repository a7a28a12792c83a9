"""A trainer's side of the feed: lease groups, compute advantages and the K2.5 objective, ack.

It needs `pip install envhub-rl[client]` and no weights. So the logprobs under "the new policy" are the recorded ones:
on-policy, every ratio is 1 and nothing is masked. A real trainer puts its own forward pass in their place.

    envhub serve ...                                   # in one terminal; prints the feed's address
    python docs/examples/trainer_client.py ADDRESS     # in another, or set ENVHUB_FEED
"""

import argparse
import os
from dataclasses import dataclass

from envhub.errors import EnvhubError
from envhub.feed.client import FeedClient, TrainerGroup
from envhub.trainers.batch import TokenBatch
from envhub.trainers.objective import K25Settings, k25_objective

K25 = K25Settings(log_low=-0.7, log_high=0.7, tau=1e-3)


@dataclass
class Totals:
    groups: int = 0
    members: int = 0
    rows: int = 0
    tokens: int = 0
    reward: float = 0.0
    loss: float = 0.0


def train(group: TrainerGroup, totals: Totals) -> None:
    """What a step would compute of one group, printed as a line."""
    batch = TokenBatch.of([group])
    tokens = int(batch.trainable.sum())
    loss = k25_objective(batch, batch.logprobs, K25).loss + 0.0 if tokens else 0.0  # + 0.0: no -0.00000
    totals.groups += 1
    totals.members += len(group.members)
    totals.rows += len(batch.advantages)
    totals.tokens += tokens
    totals.reward += float(group.rewards.sum())
    totals.loss += loss
    members = f"{len(group.members)}/{group.k}"
    print(
        f"{group.number:>6}  {group.task_id[:28]:<28}  {members:<7}  {len(batch.advantages):>5}  {tokens:>7}"
        f"  {group.rewards.mean():>7.3f}  {loss:>z9.5f}  {group.policy_version:>7}",
        flush=True,
    )


def main() -> None:
    parser = argparse.ArgumentParser(description="Lease every group of a run, compute the objective, ack.")
    parser.add_argument("address", nargs="?", default=os.environ.get("ENVHUB_FEED"), help="host:port [$ENVHUB_FEED]")
    parser.add_argument("--consumer", default="trainer-0")
    parser.add_argument("--credit", type=int, default=4, help="groups on their way or in work at a time")
    options = parser.parse_args()
    if not options.address:
        parser.error("no feed; give its address, or set ENVHUB_FEED")

    print("on-policy: the new logprobs are the recorded ones, no weights are trained")
    print(f"{'group':>6}  {'task':<28}  members   rows   tokens   reward       loss  version")
    totals = Totals()
    token = os.environ.get("ENVHUB_FEED_TOKEN")  # not an argument: those show in the list of processes
    try:
        with FeedClient(options.address, consumer=options.consumer, token=token) as feed:
            for lease in feed.groups(options.credit):
                train(lease.group, totals)
                if not lease.ack():
                    print(f"{lease.group.number:>6}  lease lost: the group was too long in work, and goes out again")
    except EnvhubError as error:
        parser.exit(1, f"error: {error}\n")
    reward, loss = totals.reward / max(totals.members, 1), totals.loss / max(totals.groups, 1)
    print(
        f"drained: {totals.groups} groups, {totals.rows} rows, {totals.tokens} trainable tokens, "
        f"mean reward {reward:.3f}, mean loss {loss:z.5f}"
    )


if __name__ == "__main__":
    main()
