"""The OpenAPI document of the API, printed for who generates types from it: `python -m envhub.dashboard.schema`."""

import json
import sys
from typing import Any

from envhub.dashboard.api import create_app
from envhub.store.memory_store import MemoryTraceStore


def schema() -> dict[str, Any]:  # Any: a JSON document, which OpenAPI defines
    """Every field of a record is required: what the server writes is whole, whatever has a default in Python."""
    document: dict[str, Any] = create_app(MemoryTraceStore(), None).openapi()
    for record in document["components"]["schemas"].values():
        if "properties" in record:
            record["required"] = sorted(record["properties"])
    return document


if __name__ == "__main__":
    json.dump(schema(), sys.stdout)
