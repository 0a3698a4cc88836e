"""docs/reference/http.md has every route and every parameter."""

import json
import re
from pathlib import Path

import httpx

PAGE = (Path(__file__).parents[3] / "docs" / "reference" / "http.md").read_text(encoding="utf-8")


def test_every_route_is_in_the_reference(web: httpx.Client) -> None:
    paths = web.get("/openapi.json").json()["paths"]
    routes = [f"{method.upper()} {path}" for path, operations in paths.items() for method in operations]
    assert [route for route in routes if f"`{route}`" not in PAGE] == []


def test_every_parameter_is_in_the_reference(web: httpx.Client) -> None:
    paths = web.get("/openapi.json").json()["paths"]
    names = {
        parameter["name"]
        for operations in paths.values()
        for operation in operations.values()
        for parameter in operation.get("parameters", ())
        if parameter["in"] == "query"
    }
    assert [name for name in names if not re.search(rf"`{name}\b", PAGE)] == []


def test_the_problem_in_the_reference_has_the_fields_of_a_real_one(web: httpx.Client) -> None:
    shown = [json.loads(block) for block in re.findall(r"```json\n(\{\n.*?\n\})\n```", PAGE, flags=re.DOTALL)]
    assert [problem.keys() for problem in shown] == [web.get("/nowhere").json().keys()]


def test_the_record_in_the_reference_has_the_fields_of_a_real_one(web: httpx.Client) -> None:
    shown = [json.loads(line) for line in re.findall(r'^\{"position".*\}$', PAGE, flags=re.MULTILINE)]
    assert [record.keys() for record in shown] == [json.loads(web.get("/v1/events?limit=1").text).keys()]
