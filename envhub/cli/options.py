"""Options that several commands share, each defined once."""

from typing import Annotated

import typer

Agent = Annotated[str, typer.Option(help="The agent loop that drives every rollout.")]
AsJson = Annotated[bool, typer.Option("--json", help="Answer in JSON on stdout; progress stays on stderr.")]
Database = Annotated[str, typer.Option("--database", "-d", help="The SQLite file that holds the traces.")]
Engine = Annotated[str, typer.Option(help="What samples tokens: embedded (a small model in this process), scripted.")]
Environments = Annotated[
    list[str], typer.Argument(metavar="ENVIRONMENT...", help="Ids, as `envhub env list` has them.")
]
Groups = Annotated[int, typer.Option("--groups", "-n", help="Groups in each environment.")]
JudgeName = Annotated[str, typer.Option("--judge", help="A registered judge in place of each environment's own.")]
K = Annotated[int, typer.Option("--k", help="Members of a group: rollouts of one task.")]
MaxBatch = Annotated[int, typer.Option(help="Generations that the engine runs side by side.")]
MaxRunning = Annotated[int, typer.Option(help="Rollouts that act at once.")]
MaxTokens = Annotated[int, typer.Option(help="The most tokens of one turn.")]
Sandbox = Annotated[
    str,
    typer.Option(help="Sandbox back end: auto (the strongest that works here), bubblewrap, or process (no isolation)."),
]
Seed = Annotated[int, typer.Option(help="Decides tasks, environments and sampling.")]
Temperature = Annotated[float, typer.Option(help="Of sampling; 1 is the model's own distribution.")]
Threads = Annotated[int, typer.Option(help="Of the engine's arithmetic; 0 chooses.")]
Weights = Annotated[str, typer.Option(help="A .gguf file for the embedded engine, instead of SmolLM2-135M-Instruct.")]
