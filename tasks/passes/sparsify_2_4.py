"""Set two of every four neighbouring weights to zero, which NVIDIA's tensor cores skip, then learn from the source."""

from typing import ClassVar, Literal

import modelopt.torch.sparsity as mts
import torch
from pydantic import Field
from torch import nn

from registry.errors import CandidateError
from registry.plugins import knob
from registry.records.model import ArtifactFormat
from tasks.optimizer.base import Artifact, Pass, PassContext, Stage
from tasks.optimizer.distillation import Distillation, distill
from tasks.optimizer.lifting import export_again, lift, save_program


class Sparsify24(Pass):
    """ModelOpt chooses the weights of linear layers and 2-D convolutions; they stay zero while the others learn.

    The others learn from the source model's answers on the calibration inputs. CPUs gain nothing by it: it is made for
    TensorRT on GPUs from Ampere on. The programs it writes were compared with their sources on a CPU; on a GPU they
    were never executed. Where time cuts the distillation short, the bytes differ from run to run.

    Source: Mishra et al., "Accelerating Sparse Deep Neural Networks", 2021;
    https://nvidia.github.io/Model-Optimizer/guides/6_sparsity.html
    """

    stage: ClassVar[Stage] = Stage.PRUNE
    consumes: ClassVar[frozenset[ArtifactFormat]] = frozenset({ArtifactFormat.EXPORTED_PROGRAM})
    produces: ClassVar[ArtifactFormat] = ArtifactFormat.EXPORTED_PROGRAM
    suits: ClassVar[frozenset[str] | None] = frozenset({"tensorrt", "torch_tensorrt"})
    needs_calibration: ClassVar[bool] = True

    algorithm: Literal["magnitude", "sparsegpt"] = knob(
        "magnitude",
        search=("magnitude", "sparsegpt"),
        description="Which weights go: the smallest, or those that change the layers' results least.",
    )
    steps: int = Field(default=300, ge=1, description="Steps of distillation, fewer if the time does not suffice.")
    seconds: float = Field(default=120.0, gt=0, description="The most that distillation takes.")

    def apply(self, artifact: Artifact, context: PassContext) -> Artifact:
        """Write ``model.pt2`` with half the weights of its large layers zero.

        Raises:
            CandidateError: no layer can be sparse, or the network does not work with so many zeros.
        """
        torch.set_num_threads(context.threads)
        signature = artifact.signature
        module = lift(torch.export.load(artifact.file)).module
        inputs = [torch.from_numpy(context.calibration[spec.name].copy()) for spec in signature.inputs]
        batch_size = signature.inputs[0].shape[0] or 64
        first = [samples[:batch_size] for samples in inputs]
        mode = "sparse_magnitude" if self.algorithm == "magnitude" else "sparsegpt"
        sparse = mts.sparsify(module, mode, config={"forward_loop": lambda net: net(*first)})
        if not any(_is_sparse(layer) for layer in sparse.modules()):
            raise CandidateError("this program has no linear layer or 2-D convolution whose weights come in fours")
        teacher = lift(torch.export.load(context.source.file)).module
        how = Distillation(self.steps, batch_size, context.seed, self.seconds, context.deadline)
        distill(sparse, teacher, inputs, how)
        produced = Artifact(context.workspace, self.produces, signature)
        save_program(export_again(mts.export(sparse), signature, context.calibration), produced.file)
        return produced


def _is_sparse(layer: nn.Module) -> bool:
    """Whether at least half of a layer's weights are zero."""
    if not isinstance(layer, nn.Linear | nn.Conv2d):
        return False
    return int((layer.weight == 0).sum()) * 2 >= layer.weight.numel()
