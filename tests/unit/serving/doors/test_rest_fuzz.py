"""No body, whatever it holds, makes a 5xx."""

from pathlib import Path

import orjson
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from serving.engine.catalog import write_entry
from serving.engine.worker import Worker
from serving.settings import EngineSettings
from tests.unit.serving.doors.rest_client import INFER, VERSIONS, open_door
from tests.unit.serving.engine.doubles import FakeWorld, entry, run

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=5),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=5), inner, max_size=4),
    max_leaves=10,
)
almost_tensors = st.fixed_dictionaries(
    {},
    optional={
        "name": st.just("x") | json_values,
        "datatype": st.just("FP32") | json_values,
        "shape": st.just([1, 2]) | st.lists(json_values, max_size=3) | json_values,
        "data": st.just([1, 2]) | st.lists(json_values, max_size=4) | json_values,
        "parameters": json_values,
    },
)
almost_requests = st.fixed_dictionaries(
    {"inputs": st.lists(almost_tensors, max_size=2) | json_values},
    optional={"id": json_values, "outputs": st.lists(almost_tensors, max_size=2), "parameters": json_values},
)


@settings(max_examples=25, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(documents=st.lists(almost_requests.map(orjson.dumps) | json_values.map(orjson.dumps) | st.binary(), max_size=20))
def test_no_body_makes_a_5xx(world: FakeWorld, tmp_path: Path, documents: list[bytes]) -> None:
    write_entry(tmp_path / "catalog", entry(1, {1: 100}, VERSIONS))
    engine = EngineSettings(catalog_folder=tmp_path / "catalog", artifacts_folder=tmp_path, capture_folder=tmp_path)

    async def work() -> None:
        async with open_door(Worker(engine, world, 0)) as client:
            for document in documents:
                reply = await client.post(INFER, content=document)
                assert reply.status_code in (200, 400), document
                assert reply.status_code == 200 or reply.json()["error"]

    run(work())
