"""The README shows the first example as it is, and the example runs."""

import runpy
from pathlib import Path

import envhub

ROOT = Path(__file__).parents[1]
EXAMPLE = ROOT / "docs" / "examples" / "sums.py"


def test_the_readme_holds_the_first_example_to_the_letter() -> None:
    assert f"```python\n{EXAMPLE.read_text()}```" in (ROOT / "README.md").read_text()


def test_the_first_example_runs(tmp_path: Path) -> None:
    runpy.run_path(str(EXAMPLE))
    result = envhub.run("demo/sums-v0", groups=2, k=4, engine="scripted", database=str(tmp_path / "run.db"))
    assert [len(group.outcomes) for group in result.groups] == [4, 4]
    assert {reward for rewards in result.rewards for reward in rewards} == {0.0, 1.0}
    assert result.members.drained
