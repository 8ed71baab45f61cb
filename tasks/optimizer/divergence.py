"""Name the first layer of a refused candidate whose output is no longer the source's."""

from pathlib import Path

from registry.errors import CandidateError
from registry.records.base import Record
from registry.records.model import ArtifactFormat, PluginConfig
from registry.records.optimization import CandidateResult
from serving.runtime import Arrays
from tasks.gates.rules import FIDELITY
from tasks.optimizer.base import Artifact
from tasks.optimizer.build import Workshop
from tasks.optimizer.dataset import Dataset, save_dataset
from tasks.optimizer.evaluate import load_arrays
from tasks.optimizer.isolation import Limits, run_child
from tasks.optimizer.job import PlacedArtifact
from tasks.optimizer.sensitivity import kept_float_graph

DIVERGENCE_CHILD = "tasks.optimizer.divergence_child"
_GRAPHS = frozenset({ArtifactFormat.ONNX, ArtifactFormat.OPENVINO_IR})
"""Formats whose inner values have names; compiled packages show none."""


class DivergenceJob(Record):
    """What the comparing child is told."""

    source: PlacedArtifact
    product: PlacedArtifact
    runtime: PluginConfig
    inputs: str
    """One sample as ``.npz``."""


def first_diverging_layer(
    source: Artifact, product: Artifact, runtime: PluginConfig, sample: Arrays, workspace: Path, limits: Limits
) -> str | None:
    """Return the first layer, in the source's order, whose output on a sample is beyond tolerance.

    The candidate's values are computed by its own runtime, the source's in float32 by ONNX Runtime. Layers are known by
    the names of values that both graphs have. What the tolerance is, is said by ``divergence_child.TOLERANCE``.

    Args:
        source: an ONNX model or an exported program, or its float ONNX graph, which saves the export.
        product: what the candidate's recipe made of it.
        runtime: the candidate's, with its knobs.
        sample: inputs by name, axis 0 of length 1: the worst sample.
        workspace: a folder of this work's own.
        limits: of the child.

    Returns:
        The path of the module or the name of the ONNX node; None where it cannot be told: no layer is beyond tolerance,
        the product shows no inner values, its layers are of other shapes than the source's, or the child failed.
    """
    if product.format not in _GRAPHS:
        return None
    workspace.mkdir(parents=True, exist_ok=True)
    inputs = workspace / "sample.npz"
    save_dataset(Dataset(sample), inputs)
    job = DivergenceJob(
        source=PlacedArtifact.of(source),
        product=PlacedArtifact.of(product),
        runtime=runtime,
        inputs=str(inputs.absolute()),
    )
    try:
        value = run_child(DIVERGENCE_CHILD, job.model_dump(mode="json"), workspace=workspace, limits=limits)
    except CandidateError:
        return None
    layer = value["layer"]
    return str(layer) if layer else None


def explained(
    result: CandidateResult, product: Artifact, workshop: Workshop, workspace: Path, limits: Limits
) -> CandidateResult:
    """Return a result that rule fidelity refused with its first diverging layer; any other as it is.

    The layer is told for the worst sample. It is a diagnosis: where it fails, the result stays what it was.

    Args:
        result: a judged candidate.
        product: its artifact.
        workshop: has the source and the evaluation set.
        workspace: a folder of this work's own.
        limits: of the child.
    """
    comparison = result.comparison
    if comparison is None or all(outcome.rule != FIDELITY for outcome in result.gate.refusals):
        return result
    source = kept_float_graph(workshop.source, workshop.cache, workshop.identity)
    worst = slice(comparison.sample, comparison.sample + 1)
    sample = {name: value[worst] for name, value in load_arrays(workshop.evaluation).items()}
    layer = first_diverging_layer(source, product, result.candidate.runtime, sample, workspace, limits)
    told = comparison.model_copy(update={"first_diverging_layer": layer})
    return result.model_copy(update={"comparison": told})
