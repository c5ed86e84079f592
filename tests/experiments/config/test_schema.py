import json
from typing import Any

from experiments.config.json_schema import Schema
from experiments.config.schema import SCHEMA_FILE, file_schema, json_schema, json_schema_text


def test_the_shipped_schema_is_up_to_date() -> None:
    assert SCHEMA_FILE.read_text(encoding="utf-8") == json_schema_text(), "run: python -m experiments.config.schema"


def test_every_key_in_the_schema_is_described() -> None:
    def described(node: Any) -> bool:
        if isinstance(node, list):
            return all(map(described, node))
        if not isinstance(node, dict):
            return True
        fields = node.get("properties", {}).values()
        return all("description" in field or "const" in field for field in fields) and all(
            map(described, node.values())
        )

    schema = json_schema()
    assert json.loads(json.dumps(schema)) == schema
    assert described(schema["$defs"]["Train"])
    assert all(described(node) for node in schema["$defs"].values())


def test_the_schema_of_a_file_completes_what_may_be_compared() -> None:
    schema = file_schema()
    compared = schema["properties"]["compare"]["properties"]
    places = {".".join(place) for place in Schema(json_schema()).paths}
    assert compared.keys() == places - {"format", "name", "train.seed"}
    for key, axis in compared.items():
        for option in axis["items"].get("anyOf", [axis["items"]]):
            here: Any = schema
            for part in option.get("$ref", "#").split("/")[1:]:
                here = here[int(part)] if isinstance(here, list) else here[part]
            assert "$ref" not in option or option["$ref"].endswith(f"/{key.rpartition('.')[2]}")
            assert isinstance(here, dict)
    assert schema["then"]["required"] == ["scenario", "algorithm"]
