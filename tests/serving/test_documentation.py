"""The OpenAPI document: valid, whole, and with examples that are what they are examples of."""

from __future__ import annotations

import json

import pytest

from aes_dynloss.serving.messages import ScoreRequest
from aes_dynloss.serving.tables import READ_TYPES, WRITTEN_TYPES

PATHS = {"/score", "/score-table", "/explain", "/health", "/health/live", "/health/ready", "/metrics"}


@pytest.fixture(scope="module")
def documented(served):
    return served.ask("GET", "/openapi.json").json


@pytest.fixture(scope="module")
def schemas(documented):
    return documented["components"]["schemas"]


def operations(documented):
    return [(path, one) for path, methods in documented["paths"].items() for one in methods.values()]


def test_it_is_valid(documented):
    validator = pytest.importorskip("openapi_spec_validator")
    validator.validate(documented)


def test_it_knows_every_address(documented):
    assert set(documented["paths"]) == PATHS
    content = documented["paths"]["/score-table"]["post"]["requestBody"]["content"]
    assert set(content) == set(READ_TYPES)
    answers = documented["paths"]["/score-table"]["post"]["responses"]["200"]["content"]
    assert set(answers) == {media_type.partition(";")[0] for media_type in WRITTEN_TYPES.values()}


def test_every_reference_leads_somewhere(documented, schemas):
    references = {part.split('"')[0] for part in json.dumps(documented).split('"#/components/schemas/')[1:]}
    assert references == set(schemas)


def test_every_address_says_what_it_is_for(documented):
    for path, operation in operations(documented):
        assert operation["summary"], path
        assert operation["description"], path
        assert operation["tags"], path
        for response in operation["responses"].values():
            assert response["description"] != "Successful Response", path
            assert "X-Request-ID" in response["headers"]


def test_every_field_has_a_description_and_an_example(schemas):
    assert len(schemas) > 10
    for name, schema in schemas.items():
        assert schema["description"], name
        for field, value in schema["properties"].items():
            assert value["description"], (name, field)
            # That of the objects that a list holds is there with them.
            assert value.get("examples") or "$ref" in json.dumps(value), (name, field)


def test_every_parameter_has_a_description_and_an_example(documented):
    for path, operation in operations(documented):
        for parameter in operation["parameters"]:
            schema = parameter["schema"]
            assert parameter.get("description"), (path, parameter["name"])
            assert "example" in parameter or "examples" in schema, (path, parameter["name"])


def test_every_text_in_a_body_has_an_example(documented):
    for path, operation in operations(documented):
        bodies = [operation.get("requestBody", {}), *operation["responses"].values()]
        for media_type, content in ((kind, one) for body in bodies for kind, one in body.get("content", {}).items()):
            if "contentMediaType" not in content["schema"]:
                assert "example" in content or "$ref" in content["schema"], (path, media_type)


def test_examples_are_what_they_are_examples_of(schemas):
    jsonschema = pytest.importorskip("jsonschema")
    for name, schema in schemas.items():
        whole = {**schema, "components": {"schemas": schemas}}
        for example in schema.get("examples", []):
            jsonschema.Draft202012Validator(whole).validate(example)
        for field, value in schema["properties"].items():
            for example in value.get("examples", []):
                part = {**value, "components": {"schemas": schemas}}
                assert not list(jsonschema.Draft202012Validator(part).iter_errors(example)), (name, field)


def test_examples_can_be_sent(documented, schemas, scorer):
    from served_app import Served

    ScoreRequest.model_validate(schemas["ScoreRequest"]["examples"][0])
    content = documented["paths"]["/score-table"]["post"]["requestBody"]["content"]
    texts = {kind: one["example"] for kind, one in content.items() if "example" in one}
    assert len(texts) == 3
    for kind, text in texts.items():
        table = text.replace("phones", "letter").encode()
        answer = Served(scorer).ask("POST", "/score-table", table, {"content-type": kind})
        assert answer.body.startswith(b"essay_id,prompt_id,raw,score"), answer.body


def test_no_page_that_fetches_from_elsewhere(served):
    assert {served.ask("GET", path).status for path in ("/docs", "/redoc")} == {404}
