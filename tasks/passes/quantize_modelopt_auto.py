"""Int8 by NVIDIA ModelOpt for those layers that cost least in accuracy, within a budget of bits."""

import copy
from collections.abc import Callable
from typing import Any, ClassVar

import modelopt.torch.quantization as mtq
import torch
from pydantic import Field
from torch import Tensor, fx

from registry.errors import CandidateError
from registry.plugins import knob
from registry.records.model import ArtifactFormat
from tasks.optimizer.base import Artifact, Pass, PassContext, Stage
from tasks.optimizer.batch_norms import fold_batch_norms
from tasks.optimizer.calibration import calibration_batches
from tasks.optimizer.lifting import export_again, lift
from tasks.optimizer.modelopt_layers import check_layers, int8_quantizers, lowest_inputs, put_quantized_layers
from tasks.optimizer.onnx_export import write_onnx
from tasks.optimizer.weight_range import reduce_range_knob


class QuantizeModelOptAuto(Pass):
    """Every layer becomes int8 or stays in float, so that the answers change least at a given number of bits.

    ModelOpt scores a layer by the gradient of a loss times the error that int8 makes in the layer's result, squared.
    The loss here needs no labels: the outputs, each in units of its deviation, times random signs. The mean of its
    squared gradients is the squared distance to the source's outputs, to first order.

    Source: https://nvidia.github.io/Model-Optimizer/guides/_pytorch_quantization.html (AutoQuantize); Hutchinson, "A
    stochastic estimator of the trace of the influence matrix", 1990
    """

    stage: ClassVar[Stage] = Stage.QUANTIZE
    consumes: ClassVar[frozenset[ArtifactFormat]] = frozenset({ArtifactFormat.EXPORTED_PROGRAM})
    produces: ClassVar[ArtifactFormat] = ArtifactFormat.ONNX
    suits: ClassVar[frozenset[str] | None] = frozenset({"openvino"})
    needs_calibration: ClassVar[bool] = True

    effective_bits: float = knob(
        10.0,
        search=(9.0, 10.0, 12.0),
        description="Mean bits of a weight; float counts as 16, so from 8 (all int8) on.",
    )
    reduce_range: bool = reduce_range_knob()
    samples: int = Field(default=512, ge=1, description="Calibration samples that are looked at.")
    excluded_layers: tuple[str, ...] = Field(default=(), description="Layers that stay in float: paths of modules.")

    def apply(self, artifact: Artifact, context: PassContext) -> Artifact:
        """Write ``model.onnx`` with the weights of some layers int8.

        Raises:
            CandidateError: an excluded layer is not in the program, no layer or every layer is to be quantized, or the
                result cannot be exported.
        """
        torch.set_num_threads(context.threads)
        lifted = lift(torch.export.load(artifact.file))
        module = lifted.module
        fold_batch_norms(module)
        check_layers(module, self.excluded_layers, lifted.left)
        batches = list(calibration_batches(context.calibration, artifact.signature, self.samples))
        tensors = [[torch.from_numpy(value.copy()) for value in batch.values()] for batch in batches]
        twin = copy.deepcopy(module)
        with lowest_inputs(twin) as lowest:
            calibrated = self._search(twin, tensors, _projected(module, tensors, context.seed))
        quantized = put_quantized_layers(module, calibrated, lowest, reduce_range=self.reduce_range)
        if quantized in (0, len(lowest)):
            which = "every" if quantized else "no"
            raise CandidateError(f"at {self.effective_bits} bits {which} layer is int8, so there is nothing to choose")
        produced = Artifact(context.workspace, self.produces, artifact.signature)
        write_onnx(export_again(module, artifact.signature, batches[0]), artifact.signature, produced.file)
        return produced

    def _search(
        self, twin: fx.GraphModule, batches: list[list[Tensor]], loss: Callable[[Any, Any], Tensor]
    ) -> torch.nn.Module:
        constraints = {"effective_bits": self.effective_bits}
        found, state = mtq.auto_quantize(
            twin,
            constraints=constraints,
            quantization_formats=[{"quant_cfg": int8_quantizers(), "algorithm": "max"}],
            data_loader=batches,
            forward_step=lambda net, batch: net(*batch),
            loss_func=loss,
            disabled_layers=list(self.excluded_layers),
            num_calib_steps=len(batches),
            num_score_steps=len(batches),
        )
        if not state["best"]["is_satisfied"]:
            raise CandidateError(f"{self.effective_bits} bits cannot be reached: int8 layers alone need more")
        return found


def _projected(module: fx.GraphModule, batches: list[list[Tensor]], seed: int) -> Callable[[Any, Any], Tensor]:
    """Return a loss: floating-point outputs, in deviations of the source's, times random signs."""
    with torch.no_grad():
        answers = module(*batches[0])
    deviations = [answer.std().clamp_min(1e-6) if answer.is_floating_point() else None for answer in answers]
    if not any(deviation is not None for deviation in deviations):
        raise CandidateError("the program returns no floating-point tensor, so nothing tells which layer costs least")
    random = torch.Generator().manual_seed(seed)

    def loss(outputs: Any, _: Any) -> Tensor:  # noqa: ANN401  what the program returns, and a batch
        terms = []
        for output, deviation in zip(outputs, deviations, strict=True):
            if deviation is not None:
                signs = torch.randint(0, 2, output.shape, generator=random) * 2 - 1
                terms.append((output * signs).sum() / deviation)
        return torch.stack(terms).sum()

    return loss
