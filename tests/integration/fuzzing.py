"""Requests of any form, right and wrong, for the doors of an engine that echoes."""

import random

import numpy as np
from hypothesis import strategies as st

from registry.records.model import Datatype
from serving.doors.protocol import open_inference_pb2 as pb
from tests.integration.echo_engine import WIDTH, name_of

MODELS = [name_of(datatype) for datatype in Datatype]

datatypes = st.sampled_from([datatype.value for datatype in Datatype])
sizes = st.sampled_from([1, 2, WIDTH, WIDTH, WIDTH]) | st.integers(-(2**63), 2**63 - 1)
shapes = st.lists(sizes, max_size=3) | st.just([1, WIDTH])
scalars = (
    st.none() | st.booleans() | st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False) | st.text(max_size=4)
)
values = st.lists(scalars, min_size=WIDTH, max_size=WIDTH) | st.recursive(
    scalars, lambda inner: st.lists(inner), max_leaves=9
)
FITTING = {Datatype.BOOL: [True, False, True, False], Datatype.BYTES: ["", "a", "b", "\0"]}
fitting = st.sampled_from(list(Datatype)).map(
    lambda datatype: {
        "name": "x",
        "datatype": datatype.value,
        "shape": [1, WIDTH],
        "data": FITTING.get(datatype, [0, 1, 2, 3]),
    }
)
parameters = st.dictionaries(st.sampled_from(["binary_data_size", "binary_data", "priority", "timeout", "x"]), scalars)
tensors = st.fixed_dictionaries(
    {"name": st.just("x"), "datatype": datatypes, "shape": shapes},
    optional={"data": values, "parameters": parameters},
)
documents = st.fixed_dictionaries(
    {"inputs": fitting.map(lambda tensor: [tensor]) | st.lists(tensors, min_size=1, max_size=2)},
    optional={
        "id": scalars,
        "parameters": parameters,
        "outputs": st.lists(
            st.fixed_dictionaries({"name": st.just("y")}, optional={"parameters": parameters}), max_size=2
        ),
    },
)

contents = st.fixed_dictionaries(
    {},
    optional={
        "bool_contents": st.lists(st.booleans(), max_size=4),
        "int_contents": st.lists(st.integers(-(2**31), 2**31 - 1), max_size=4),
        "int64_contents": st.lists(st.integers(-(2**63), 2**63 - 1), max_size=4),
        "uint_contents": st.lists(st.integers(0, 2**32 - 1), max_size=4),
        "fp32_contents": st.lists(st.floats(width=32), max_size=4),
        "fp64_contents": st.lists(st.floats(), max_size=4),
        "bytes_contents": st.lists(st.binary(max_size=4), max_size=4),
    },
)
given_tensors = st.builds(
    lambda name, datatype, shape, held: pb.ModelInferRequest.InferInputTensor(
        name=name, datatype=datatype, shape=shape, contents=pb.InferTensorContents(**held) if held else None
    ),
    st.just("x") | st.text(max_size=3),
    datatypes | st.text(max_size=5),
    shapes,
    contents,
)
messages = st.builds(
    pb.ModelInferRequest,
    model_name=st.sampled_from([*MODELS, "nan", "nobody"]),
    model_version=st.sampled_from(["", "1", "2", "9", "x"]),
    id=st.text(max_size=5),
    inputs=st.lists(given_tensors, max_size=2),
    raw_input_contents=st.lists(st.binary(max_size=40), max_size=2),
)


def raw_tensor(datatype: Datatype, rows: int, seed: int) -> bytes:
    """Any tensor of a datatype without NaN, as bytes on the wire."""
    drawn = random.Random(seed)
    if datatype is Datatype.BYTES:
        texts = [drawn.choice(["", "a", "\u00e9\0", "long" * 50]).encode() for _ in range(rows * WIDTH)]
        return b"".join(len(text).to_bytes(4, "little") + text for text in texts)
    if datatype is Datatype.BOOL:
        return bytes(drawn.getrandbits(1) for _ in range(rows * WIDTH))
    dtype = np.dtype(datatype.numpy_name)
    found = np.frombuffer(drawn.randbytes(rows * WIDTH * dtype.itemsize), dtype)
    finite = np.isfinite(found) if dtype.kind in "fV" else np.ones(len(found), bool)
    return np.where(finite, found, np.zeros(1, dtype)).tobytes()
