"""Described plug-ins and the chains made of them, for the tests of what is tried when."""

from registry.records.model import ArtifactFormat
from tasks.optimizer.base import Stage
from tasks.optimizer.catalogue import Catalogue, Knob, PassDescription, RuntimeDescription
from tasks.optimizer.space import Chain, chains

PROGRAM, ONNX, PACKAGE = ArtifactFormat.EXPORTED_PROGRAM, ArtifactFormat.ONNX, ArtifactFormat.AOTI_PACKAGE


def described(
    name: str, stage: Stage, consumes: ArtifactFormat, produces: ArtifactFormat, **knobs: Knob
) -> PassDescription:
    return PassDescription(name=name, stage=stage, consumes=frozenset({consumes}), produces=produces, knobs=knobs)


PASSES = (
    described("prune", Stage.PRUNE, PROGRAM, PROGRAM, ratio=Knob(default=0.3, values=(0.3, 0.5))),
    described("cast", Stage.SIMPLIFY, PROGRAM, PROGRAM),
    described("export_onnx", Stage.EXPORT, PROGRAM, ONNX),
    described(
        "quantize",
        Stage.QUANTIZE,
        ONNX,
        ONNX,
        method=Knob(default="minmax", values=("minmax", "entropy", "percentile")),
        per_channel=Knob(default=True, values=(True, False)),
    ),
    described("compile", Stage.COMPILE, PROGRAM, PACKAGE),
)
RUNTIMES = (
    RuntimeDescription(name="eager", consumes=frozenset({PROGRAM})),
    RuntimeDescription(name="ort", consumes=frozenset({ONNX})),
    RuntimeDescription(name="aot", consumes=frozenset({PACKAGE})),
)
CATALOGUE = Catalogue(passes={one.name: one for one in PASSES}, runtimes={one.name: one for one in RUNTIMES})


def every_chain() -> tuple[Chain, ...]:
    return chains(PROGRAM, CATALOGUE, threads=1)


def chain(name: str) -> Chain:
    return next(one for one in every_chain() if one.name == name)
