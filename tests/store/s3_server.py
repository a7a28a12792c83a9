"""An S3 server of somebody else's (moto) in a process of its own, which lets in whom it knows."""

import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

BUCKET = "payloads"
USER = "ana"
START_S = 60.0
_RIGHTS = {"Version": "2012-10-17", "Statement": {"Effect": "Allow", "Action": "*", "Resource": "*"}}
_FREE_CALLS = 4  # those of `_known_user`: whoever makes later ones must be known


@dataclass(frozen=True, slots=True)
class S3Server:
    port: int
    client: Any  # boto3's, which has no types

    @property
    def url(self) -> str:
        return f"s3://{BUCKET}"


@contextmanager
def s3_server(log: Path) -> Iterator[S3Server]:
    """A server with an empty bucket, which this process's environment names, with keys to it."""
    boto3 = pytest.importorskip("boto3")
    with log.open("wb") as out:
        command = [sys.executable, "-c", "from moto.server import main; main(['-p', '0'])"]
        environment = {**os.environ, "INITIAL_NO_AUTH_ACTION_COUNT": str(_FREE_CALLS)}
        process = subprocess.Popen(command, env=environment, stdout=out, stderr=out)
    try:
        port = _port(log)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{port}")
            patch.setenv("AWS_DEFAULT_REGION", "us-east-1")
            patch.setenv("AWS_EC2_METADATA_DISABLED", "true")
            patch.setenv("AWS_MAX_ATTEMPTS", "1")  # we try again ourselves
            patch.setenv("NO_PROXY", "127.0.0.1")
            for name, value in _known_user(boto3).items():
                patch.setenv(name, value)
            client = boto3.client("s3")
            yield S3Server(port, client)
            client.close()
    finally:
        process.kill()
        process.wait()


def _port(log: Path) -> int:
    until = time.monotonic() + START_S
    while (found := re.search(r"127\.0\.0\.1:(\d+)", log.read_text())) is None:
        assert time.monotonic() < until, log.read_text()
        time.sleep(0.05)
    return int(found[1])


def _known_user(boto3: Any) -> dict[str, str]:
    """The keys of one who may do all, with a bucket."""
    anybody = {"aws_access_key_id": "anybody", "aws_secret_access_key": "anybody"}
    users = boto3.client("iam", **anybody)
    users.create_user(UserName=USER)
    users.put_user_policy(UserName=USER, PolicyName="all", PolicyDocument=json.dumps(_RIGHTS))
    key = users.create_access_key(UserName=USER)["AccessKey"]
    users.close()
    buckets = boto3.client("s3", **anybody)
    buckets.create_bucket(Bucket=BUCKET)
    buckets.close()
    return {"AWS_ACCESS_KEY_ID": key["AccessKeyId"], "AWS_SECRET_ACCESS_KEY": key["SecretAccessKey"]}
