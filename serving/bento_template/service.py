"""The service of one model version, served alone: `version.json` and `artifact/` stand next to this file.

A typed endpoint `predict`, its schema the version's signature, and `describe`; every answer names what made it.
"""

from pathlib import Path
from typing import Annotated, Any, cast

import bentoml
import numpy as np
import numpy.typing as npt
from bentoml.validators import DType, Shape
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, create_model
from pydantic_core import PydanticCustomError

from registry.digest import tree_digest
from registry.errors import RegistryError
from registry.records.model import Signature, TensorSpec
from registry.records.release import CatalogEntry
from serving.runtime import build_runtime

_HERE = Path(__file__).parent
_ENTRY = CatalogEntry.model_validate_json((_HERE / "version.json").read_text(encoding="utf-8"))
_SERVED = _ENTRY.versions[0]
_HEADERS = {
    "x-burnish-model": _ENTRY.model,
    "x-burnish-version": str(_SERVED.version),
    "x-burnish-artifact": _SERVED.artifact.sha256,
}
# What NumPy makes of JSON numbers, by what the tensor holds: integers may stand for floats, nothing else is converted.
_ACCEPTED_KINDS = {"f": "fiu", "i": "iu", "u": "iu", "b": "b"}
_JSON_KINDS = {"U": "text", "O": "null or mixed values"}

AnyArray = npt.NDArray[Any]


def _refuse(message: str) -> PydanticCustomError:
    return PydanticCustomError("tensor", cast("Any", message))


def _exact(spec: TensorSpec, value: object) -> AnyArray:
    """Return the value as an array of the spec's type and shape; a value that only resembles one is refused."""
    wanted = np.dtype(spec.datatype.numpy_name)
    try:
        found = np.asarray(value)
    except ValueError as error:
        raise _refuse("the nested lists differ in length") from error
    if found.size and found.dtype.kind not in _ACCEPTED_KINDS[wanted.kind]:
        raise _refuse(f"expected {wanted.name}, got {_JSON_KINDS.get(found.dtype.kind, found.dtype.name)}")
    shape = [size if size is not None else "any" for size in spec.shape]
    fits = len(found.shape) == len(shape) and all(s in ("any", n) for s, n in zip(shape, found.shape, strict=True))
    if not fits or found.size == 0:
        raise _refuse(f"expected shape {shape}, got {list(found.shape)}")
    with np.errstate(over="ignore"):
        array: AnyArray = found.astype(wanted)
    if wanted.kind == "f" and not np.isfinite(array).all():
        raise _refuse(f"a value is not a finite {wanted.name}")
    if wanted.kind in "iu" and not (array == found).all():
        raise _refuse(f"a value is outside the range of {wanted.name}")
    return array


class _Tensors(bentoml.IODescriptor):  # type: ignore[misc]
    """Unknown tensors are refused; tensors are written under their own names."""

    model_config = ConfigDict(extra="forbid", serialize_by_alias=True)


def _model(title: str, specs: tuple[TensorSpec, ...]) -> type[BaseModel]:
    """A model with one field a tensor; a tensor's name is the field's alias, since it may be any text."""
    fields: dict[str, Any] = {}
    for index, spec in enumerate(specs):
        size = tuple(-1 if length is None else length for length in spec.shape)
        check = BeforeValidator(lambda value, spec=spec: _exact(spec, value))
        tensor = Annotated[np.ndarray, DType(spec.datatype.numpy_name), Shape(size), check]
        fields[f"tensor_{index}"] = (tensor, Field(alias=spec.name))
    return create_model(title, __base__=_Tensors, **fields)


def _by_name(specs: tuple[TensorSpec, ...], fields: dict[str, AnyArray]) -> dict[str, AnyArray]:
    return {spec.name: fields[f"tensor_{index}"] for index, spec in enumerate(specs)}


_SIGNATURE: Signature = _SERVED.signature
_Input = _model("Input", _SIGNATURE.inputs)
_Output = _model("Output", _SIGNATURE.outputs)


@bentoml.service(name=_ENTRY.model, logging={"access": {"enabled": False}})
class Version:
    """One version of one model."""

    def __init__(self) -> None:
        """Check the artifact's bytes, load it and run it once."""
        found = tree_digest(_HERE / "artifact")
        if found != _SERVED.artifact.sha256:
            raise RegistryError(f"the artifact of this Bento has digest {found}, not {_SERVED.artifact.sha256}")
        runtime = build_runtime(_SERVED.runtime)
        self._session = runtime.load(_HERE / "artifact", _SERVED.artifact.format, _SIGNATURE)
        self._session.warm_up()

    @bentoml.api(input_spec=_Input, output_spec=_Output)
    def predict(self, ctx: bentoml.Context, **tensors: AnyArray) -> BaseModel:
        """Compute every output; inputs are nested lists by tensor name, of exactly the declared type and shape."""
        ctx.response.headers.update(_HEADERS)
        outputs = self._session.run(_by_name(_SIGNATURE.inputs, tensors))
        fields: dict[str, Any] = {f"tensor_{i}": outputs[spec.name] for i, spec in enumerate(_SIGNATURE.outputs)}
        return _Output.model_construct(**fields)

    @bentoml.api
    def describe(self, ctx: bentoml.Context) -> dict[str, Any]:
        """Say what answers here: model, version, artifact digest, runtime and signature."""
        ctx.response.headers.update(_HEADERS)
        return {"model": _ENTRY.model, **_SERVED.model_dump(mode="json")}
