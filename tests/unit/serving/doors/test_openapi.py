"""The OpenAPI document: valid, told of, and every path of it answered by the door."""

from typing import Any

import orjson
import schemathesis

from serving.doors.openapi import document
from serving.engine.worker import Worker
from tests.unit.serving.doors.rest_client import body, open_door
from tests.unit.serving.engine.doubles import run


def test_it_is_an_openapi_document_whose_references_hold() -> None:
    schema: Any = schemathesis.openapi.from_dict(document("any"))
    schema.validate()
    operations = [operation.ok().label for operation in schema.get_all_operations()]
    assert len(operations) == len(set(operations)) == 19
    assert "POST /v2/models/{model}/versions/{version}/infer" in operations


def test_every_path_of_it_is_answered_and_no_other_method(worker: Worker) -> None:
    async def work() -> None:
        async with open_door(worker) as client:
            served = (await client.get("/v2/openapi.json")).json()
            assert served == orjson.loads(orjson.dumps(document(served["info"]["version"])))
            assert "openapi" in (await client.get("/v2")).json()["extensions"]
            for template, item in served["paths"].items():
                path = template.format(model="m", version="1")
                (method,) = {"get", "post"} & set(item)
                infer = path.endswith("/infer")
                reply = await client.request(method, path, json=body() if infer else None)
                assert reply.status_code == 200, (path, reply.text)
                wrong = await client.request("put", path)
                assert (wrong.status_code, wrong.headers["allow"]) == (405, method.upper()), path

    run(work())
