"""A raw binary request: the tensor of a model's only input, without JSON; its shape follows from its size.

Source: https://github.com/triton-inference-server/server, docs/protocol/extension_binary_data.md, "Raw Binary Request".
"""

import math

from registry.errors import InputError
from serving.engine import elements
from serving.engine.tensors import SignaturePlan, TensorPlan, from_bytes
from serving.runtime import Array, Arrays


def decode_raw(data: memoryview, plan: SignaturePlan, *, finite: bool = True) -> Arrays:
    """Build the input out of a whole body.

    One size of its shape may vary. Where more do, and for BYTES, a batched signature is given one sample.

    Args:
        data: the body: values as elsewhere in bytes; of BYTES the only element, without its length.
        plan: of the signature.
        finite: refuse NaN and infinities.

    Raises:
        InputError: the signature has several inputs, or one whose shape the size does not give; or the size or a
            value does not fit.
    """
    if len(plan.inputs) > 1:
        raise InputError(
            f"the body: without JSON (inference-header-content-length: 0) it is one input, but the model has "
            f"{plan.input_names}; send JSON"
        )
    (tensor,) = plan.inputs
    text, sizes, where = tensor.dtype.hasobject, tensor.shape, f"the body, {tensor.name!r}"
    if plan.batched and (text or sizes.count(None) > 1):
        sizes = (1, *sizes[1:])
    return {tensor.name: _element(sizes, data, where) if text else _values(tensor, sizes, data, where, finite)}


def _element(sizes: tuple[int | None, ...], data: memoryview, where: str) -> Array:
    shape = [size for size in sizes if size is not None]
    if len(shape) < len(sizes) or math.prod(shape) != 1:
        raise InputError(
            f"{where}: without JSON BYTES are one element, but the shape is {_shown(sizes)}; say the shape in JSON"
        )
    return elements.from_values([bytes(data)], where).reshape(shape)


def _values(tensor: TensorPlan, sizes: tuple[int | None, ...], data: memoryview, where: str, finite: bool) -> Array:
    varying = sizes.count(None)
    if varying > 1:
        raise InputError(
            f"{where}: {varying} sizes of the shape {_shown(sizes)} vary, and without JSON only one can be known; "
            "say the shape in JSON"
        )
    step = math.prod(size for size in sizes if size is not None) * tensor.dtype.itemsize
    size, rest = divmod(len(data), max(1, step))
    if varying and (rest or not size):
        raise InputError(
            f"{where}: expected a multiple of {step} bytes for {tensor.datatype} of the shape {_shown(sizes)}, "
            f"got {len(data)}"
        )
    return from_bytes(tensor, [size if one is None else one for one in sizes], data, where, finite=finite)


def _shown(sizes: tuple[int | None, ...]) -> list[int]:
    return [-1 if size is None else size for size in sizes]
