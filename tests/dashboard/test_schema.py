"""The document that the page's types are made from."""

import json
import subprocess
import sys

from envhub.dashboard.schema import schema


def test_every_field_of_a_record_is_there_for_the_page_to_read():
    records = [record for record in schema()["components"]["schemas"].values() if "properties" in record]
    assert records
    assert all(set(record["required"]) == set(record["properties"]) for record in records)


def test_every_answer_in_json_has_a_shape():
    answers = [
        (path, answer["schema"])
        for path, methods in schema()["paths"].items()
        for operation in methods.values()
        for kind, answer in operation["responses"].get("200", {}).get("content", {}).items()
        if kind == "application/json"
    ]
    assert [path for path, shape in answers if not shape] == []


def test_the_document_is_printed():
    printed = subprocess.run([sys.executable, "-m", "envhub.dashboard.schema"], capture_output=True, check=True)
    assert json.loads(printed.stdout) == schema()
