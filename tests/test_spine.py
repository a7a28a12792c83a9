"""The whole way, for real: a model with weights, sandboxes, a trainer in a process of its own, and what they left."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ENVHUB = [str(Path(sys.executable).with_name("envhub"))]
TRAINER = f"{sys.executable} {ROOT / 'docs' / 'examples' / 'trainer_client.py'}"
ENVIRONMENTS = ("envhub/arithmetic-v0", "envhub/calculator-v0", "envhub/delegate-v0")


def envhub(*arguments: str) -> dict:
    done = subprocess.run([*ENVHUB, *arguments, "--json"], capture_output=True, text=True, timeout=110)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.engines
@pytest.mark.sandboxes
def test_a_real_model_plays_every_environment_and_a_trainer_consumes_it(tmp_path: Path) -> None:
    database = str(tmp_path / "spine.db")
    options = ("--groups", "1", "--k", "4", "--temperature", "0.7", "--max-tokens", "64", "--database", database)
    report = envhub("run", *ENVIRONMENTS, *options, "--trainer", TRAINER)

    assert set(report["environments"]) == set(ENVIRONMENTS)
    assert report["members"]["submitted"] == report["members"]["acked"] == 12
    assert report["conserved"] and report["drained"]
    assert all(line["tokens"] > 0 for line in report["environments"].values())

    verified = envhub("verify", "--database", database)
    assert verified["ok"]
    assert verified["sampled_tokens"] == sum(line["tokens"] for line in report["environments"].values())
    assert verified["rollouts"] == 12 + sum(line["children"] for line in report["environments"].values())
