"""Search for narrower layers by NVIDIA ModelOpt's FastNAS, where there is source code; then learn from the source."""

import importlib.util
from collections.abc import Callable
from pathlib import Path
from typing import Any, ClassVar, Literal

import modelopt.torch.prune as mtp
import torch
import torchprofile.profile
from modelopt.torch.prune.fastnas import FastNASConfig
from pydantic import Field
from torch import Tensor, nn
from torch.utils import _pytree as pytree

from registry.errors import CandidateError
from registry.plugins import knob
from registry.records.model import ArtifactFormat
from tasks.optimizer.base import Artifact, Pass, PassContext, Stage
from tasks.optimizer.distillation import Distillation, distill, distillation_loss
from tasks.optimizer.lifting import export_again, lift, save_program

INSTALL = "pip install --no-deps torchprofile==0.0.4"

_DIVISOR = 8
"""Channels are kept in multiples of this; ModelOpt's own 32 leaves small networks nothing to choose."""
_SCORED_SAMPLES = 256


class PruneFastNas(Pass):
    """The widths of layers that change the answers least within a budget of operations or parameters.

    FastNAS traces Python code, so it works on the user's own module, not on the exported program: the module is built
    by the function that the user named, and takes the program's weights. A subnet is scored by its distance to the
    source's answers on the calibration inputs; the one that is found then learns from them. The layer that matters most
    keeps its width: the search never goes that far. Where time cuts the distillation short, the bytes differ from run
    to run.

    Source: https://nvidia.github.io/Model-Optimizer/guides/3_pruning.html
    """

    stage: ClassVar[Stage] = Stage.PRUNE
    consumes: ClassVar[frozenset[ArtifactFormat]] = frozenset({ArtifactFormat.EXPORTED_PROGRAM})
    produces: ClassVar[ArtifactFormat] = ArtifactFormat.EXPORTED_PROGRAM
    needs_calibration: ClassVar[bool] = True
    needs_source_code: ClassVar[bool] = True

    measure: Literal["flops", "params"] = knob("flops", description="What is bounded: operations or parameters.")
    share: float = knob(0.6, search=(0.6, 0.4), description="Upper bound, as a share of what the source has.")
    steps: int = Field(default=600, ge=1, description="Steps of distillation, fewer if the time does not suffice.")
    seconds: float = Field(default=120.0, gt=0, description="The most that distillation takes.")

    @classmethod
    def unavailable(cls) -> str | None:
        """ModelOpt counts operations by a table that torchprofile has moved since 0.0.4."""
        return None if hasattr(torchprofile.profile, "handlers") else f"torchprofile is too new; run: {INSTALL}"

    def apply(self, artifact: Artifact, context: PassContext) -> Artifact:
        """Write ``model.pt2`` with narrower layers.

        Raises:
            CandidateError: there is no source code or it does not fit the program, no subnet satisfies the bound, or
                the one that was found does not learn.
        """
        torch.set_num_threads(context.threads)
        torch.manual_seed(context.seed)
        signature = artifact.signature
        program = torch.export.load(artifact.file)
        module = _with_weights(_built(context.source_code), program.state_dict)
        inputs = [torch.from_numpy(context.calibration[spec.name].copy()) for spec in signature.inputs]
        batch_size = signature.inputs[0].shape[0] or 64
        found = self._search(module, inputs, batch_size)
        student = lift(export_again(found, signature, context.calibration)).module
        teacher = lift(torch.export.load(context.source.file)).module
        how = Distillation(self.steps, batch_size, context.seed, self.seconds, context.deadline)
        distill(student, teacher, inputs, how)
        produced = Artifact(context.workspace, self.produces, signature)
        save_program(export_again(student, signature, context.calibration), produced.file)
        return produced

    def _search(self, module: nn.Module, inputs: list[Tensor], batch_size: int) -> nn.Module:
        """Return the best subnet within the bound.

        Raises:
            CandidateError: ModelOpt cannot search this module, or no subnet is within the bound.
        """
        batches = list(zip(*(samples.split(batch_size) for samples in inputs), strict=True))
        try:
            found, state = mtp.prune(
                module,
                mode=[("fastnas", _space())],
                constraints={self.measure: f"{100 * self.share:g}%"},
                dummy_input=tuple(samples[:1] for samples in inputs),
                config={
                    "data_loader": batches,
                    "collect_func": lambda batch: batch,
                    "score_func": _score(module, [samples[:_SCORED_SAMPLES] for samples in inputs]),
                },
            )
        except (AssertionError, RuntimeError, ValueError, KeyError, AttributeError) as error:
            raise CandidateError(f"FastNAS cannot search this module: {error}") from error
        if not state["best"]["is_satisfied"]:
            raise CandidateError(f"no subnet has at most {self.share:.0%} of the {self.measure} of this module")
        return found.eval()


def _built(source_code: str | None) -> nn.Module:
    """Return what the user's function builds.

    Raises:
        CandidateError: there is none, or it cannot be called.
    """
    if source_code is None:
        raise CandidateError("FastNAS works on source code only: give FILE.py:FUNCTION that builds the module")
    file, _, function = source_code.rpartition(":")
    spec = importlib.util.spec_from_file_location(Path(file).stem, file)
    assert spec is not None
    assert spec.loader is not None
    code = importlib.util.module_from_spec(spec)
    try:
        spec.loader.exec_module(code)
        built = getattr(code, function)()
    except (OSError, ImportError, AttributeError, TypeError, ValueError) as error:
        raise CandidateError(f"{source_code} does not build a module: {type(error).__name__}: {error}") from error
    if not isinstance(built, nn.Module):
        raise CandidateError(f"{source_code} returns a {type(built).__name__}, not an nn.Module")
    return built


def _with_weights(module: nn.Module, weights: dict[str, Tensor]) -> nn.Module:
    try:
        module.load_state_dict(weights)
    except RuntimeError as error:
        raise CandidateError(f"the source code builds another module than the program's: {error}") from error
    return module.eval()


def _space() -> dict[str, Any]:
    """Return ModelOpt's own search space with finer steps."""
    rules: dict[str, Any] = FastNASConfig().model_dump()
    for kinds in rules.values():
        for options in kinds.values():
            if options is not None:
                options.update({name: _DIVISOR for name in options if name.endswith("_divisor")})
    return rules


def _score(module: nn.Module, inputs: list[Tensor]) -> Callable[[nn.Module], float]:
    """Return a function that tells how near a subnet's answers are to those of the module as it is now; 0 is best."""

    def answers(net: nn.Module) -> list[Tensor]:
        with torch.no_grad():
            return pytree.tree_leaves(net.eval()(*inputs))

    wanted = answers(module)
    return lambda net: -distillation_loss(answers(net), wanted).item()
