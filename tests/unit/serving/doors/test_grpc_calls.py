"""Messages over gRPC that are no messages, or too large once they are decompressed."""

import grpc
import numpy as np
import pytest

from serving.doors.protocol import open_inference_pb2 as pb
from serving.engine.worker import Worker
from tests.unit.serving.doors.test_grpc import answered, asked, open_door, tensor
from tests.unit.serving.engine.doubles import run


def test_a_compressed_message_is_read_up_to_the_limit(worker: Worker) -> None:
    async def work() -> None:
        async with open_door(worker) as client:
            for rows, code in ((10_000, None), (100_000, grpc.StatusCode.RESOURCE_EXHAUSTED)):
                zeros = np.zeros((rows, 2), np.float32)
                fields = asked(inputs=[tensor(shape=zeros.shape)], raw_input_contents=[zeros.tobytes()])
                call = client._channel.unary_unary(
                    "/inference.GRPCInferenceService/ModelInfer",
                    request_serializer=pb.ModelInferRequest.SerializeToString,
                    response_deserializer=pb.ModelInferResponse.FromString,
                )
                try:
                    response = await call(pb.ModelInferRequest(**fields), timeout=10, compression=grpc.Compression.Gzip)
                except grpc.aio.AioRpcError as error:
                    assert error.code() is code
                    assert "grpc-retry-pushback-ms" not in dict(error.trailing_metadata() or ())
                else:
                    assert (code, len(answered(response))) == (None, 2 * rows)

    run(work())


def test_bytes_that_are_no_message_are_refused(worker: Worker) -> None:
    async def work() -> None:
        async with open_door(worker) as client:
            call = client._channel.unary_unary("/inference.GRPCInferenceService/ModelInfer")
            with pytest.raises(grpc.aio.AioRpcError) as failed:
                await call(b"\xff", timeout=30)
            assert failed.value.code() is grpc.StatusCode.INVALID_ARGUMENT
            assert (failed.value.details() or "").startswith("the message: Error parsing")

    run(work())
