"""Take whole channels out of convolution and linear layers, then learn from the source model again."""

from typing import Annotated, ClassVar

import torch
import torch_pruning
from pydantic import Field
from torch import fx, nn

from registry.errors import CandidateError
from registry.plugins import knob
from registry.records.model import ArtifactFormat
from tasks.optimizer.base import Artifact, Pass, PassContext, Stage
from tasks.optimizer.channels import fixed_layers
from tasks.optimizer.distillation import Distillation, distill
from tasks.optimizer.lifting import export_again, lift, save_program

_ROUND_TO = 8
"""Channels are kept in multiples of this: vector instructions work on 8 or 16 at a time."""


class PruneStructured(Pass):
    """The channels of the smallest weights go, together with everything that depends on them.

    What an output, an input or a reshape counts on stays, and so do recurrent layers and attention; of a transformer
    the feed-forward layers become narrower. The pruned network then learns from the source model's answers on the
    calibration inputs. Where time cuts that short, the number of steps, and so the bytes, differ from run to run.

    Source: Fang et al., "DepGraph: Towards Any Structural Pruning", 2023, https://github.com/VainF/Torch-Pruning
    """

    stage: ClassVar[Stage] = Stage.PRUNE
    consumes: ClassVar[frozenset[ArtifactFormat]] = frozenset({ArtifactFormat.EXPORTED_PROGRAM})
    produces: ClassVar[ArtifactFormat] = ArtifactFormat.EXPORTED_PROGRAM
    needs_calibration: ClassVar[bool] = True

    ratio: Annotated[float, Field(gt=0, lt=1)] = knob(
        0.3, search=(0.3, 0.5, 0.7), description="Share of the channels that go."
    )
    steps: Annotated[int, Field(ge=1)] = knob(
        600, search=(600, 2000), description="Steps of distillation, fewer if the time does not suffice."
    )
    seconds: float = Field(default=120.0, gt=0, description="The most that distillation takes.")
    excluded_layers: tuple[str, ...] = Field(default=(), description="Modules, by path, that keep their channels.")

    def apply(self, artifact: Artifact, context: PassContext) -> Artifact:
        """Write ``model.pt2`` with fewer channels.

        Raises:
            CandidateError: no channel can go, or the network does not work without those that went.
        """
        torch.set_num_threads(context.threads)
        signature = artifact.signature
        lifted = lift(torch.export.load(artifact.file))
        inputs = [torch.from_numpy(context.calibration[spec.name].copy()) for spec in signature.inputs]
        batch_size = signature.inputs[0].shape[0] or 64
        gone = _prune(lifted.module, [samples[:batch_size] for samples in inputs], self.ratio, self.excluded_layers)
        if not gone:
            left = f"; calls that were not looked into: {', '.join(lifted.left)}" if lifted.left else ""
            raise CandidateError(f"no channel of this program can go at ratio {self.ratio}{left}")
        teacher = lift(torch.export.load(context.source.file)).module
        how = Distillation(self.steps, batch_size, context.seed, self.seconds, context.deadline)
        distill(lifted.module, teacher, inputs, how)
        produced = Artifact(context.workspace, self.produces, signature)
        save_program(export_again(lifted.module, signature, context.calibration), produced.file)
        return produced


def _prune(module: fx.GraphModule, example: list[torch.Tensor], ratio: float, excluded: tuple[str, ...]) -> int:
    """Remove channels in place and return how many parameters went with them.

    Raises:
        CandidateError: an excluded layer is not in the program, or it does not run without those channels.
    """
    paths = dict(module.named_modules())
    unknown = [layer for layer in excluded if layer not in paths]
    if unknown:
        raise CandidateError(f"the excluded layer {unknown[0]!r} is not in the program; give a module's path")
    before = _parameters(module)
    for parameter in module.parameters():
        parameter.requires_grad_(parameter.is_floating_point())  # the dependencies are read from the gradient's graph
    pruner = torch_pruning.pruner.BasePruner(
        module,
        tuple(example),
        importance=torch_pruning.importance.GroupMagnitudeImportance(p=2),
        pruning_ratio=ratio,
        ignored_layers=[*fixed_layers(module), *(paths[layer] for layer in excluded)],
        round_to=_ROUND_TO,
        in_channel_groups={},  # the defaults are shared between pruners
        out_channel_groups={},
    )
    pruner.step()
    try:
        with torch.no_grad():
            module(*example)
    except RuntimeError as error:
        raise CandidateError(f"the program does not run with fewer channels: {error}") from error
    return before - _parameters(module)


def _parameters(module: nn.Module) -> int:
    return sum(parameter.numel() for parameter in module.parameters())
