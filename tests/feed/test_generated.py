"""The committed code is what the proto file gives."""

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[2]
GENERATED = "envhub/feed/v1"


def test_generated_code_is_up_to_date_with_the_proto_file(tmp_path):
    command = [sys.executable, "-m", "grpc_tools.protoc", "-I", "proto"]
    command += [f"--{kind}_out={tmp_path}" for kind in ("python", "pyi", "grpc_python")]
    subprocess.run([*command, "proto/envhub/feed/v1/feed.proto"], cwd=ROOT, check=True, timeout=60)
    fresh = {path.name: path.read_text() for path in (tmp_path / GENERATED).iterdir()}
    committed = {path.name: path.read_text() for path in (ROOT / GENERATED).glob("feed_pb2*")}
    assert fresh == committed, "run `make proto`"
