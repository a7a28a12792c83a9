"""What the feed alone may be told."""

from typing import Annotated

import typer

FEED = "Feed"  # a panel of the help

Lease = Annotated[
    float,
    typer.Option(
        "--lease",
        metavar="SECONDS",
        help="For so long a delivered group is a trainer's, unless it extends it; its client does while it lives.",
        rich_help_panel=FEED,
    ),
]
