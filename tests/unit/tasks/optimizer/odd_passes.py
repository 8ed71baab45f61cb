"""Passes that go wrong in every way, installed as entry points for this process and its children."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from tasks.optimizer import isolation
from tasks.optimizer.settings import child_environment

_PASS = '''"""A pass of the tests: {name}."""
import ctypes, os, shutil, signal, subprocess, sys, time
from pathlib import Path
from typing import ClassVar
import numpy as np
import onnx
from registry.errors import CandidateError
from registry.records.model import ArtifactFormat
from tasks.optimizer.base import Artifact, Pass, PassContext, Stage


class Odd(Pass):
    """{name}."""

    stage: ClassVar[Stage] = Stage.QUANTIZE
    consumes: ClassVar[frozenset[ArtifactFormat]] = frozenset({{ArtifactFormat.ONNX}})
    produces: ClassVar[ArtifactFormat] = ArtifactFormat.ONNX

    def apply(self, artifact: Artifact, context: PassContext) -> Artifact:
        model = onnx.load(str(artifact.file))
        weight = model.graph.initializer[0]
        folder = context.workspace
        {body}
        onnx.save(model, str(folder / "model.onnx"))
        return Artifact(folder, self.produces, artifact.signature)
'''

_ADD_MEAN = (
    "model.graph.node[0].output[0] = 'inner'\n"
    "        model.graph.node.append(onnx.helper.make_node('ReduceMean', ['inner', 'axis'], ['mean']))\n"
    "        model.graph.node.append(onnx.helper.make_node('Mul', ['mean', 'small'], ['little']))\n"
    "        model.graph.node.append(onnx.helper.make_node('Add', ['inner', 'little'], ['y']))\n"
    "        for name, value in (('axis', np.zeros(1, np.int64)), ('small', np.full(1, 0.005, np.float32))):\n"
    "            model.graph.initializer.append(onnx.numpy_helper.from_array(value, name))"
)

BODIES = {
    "quick": "(folder / 'quick').touch()",
    "slow": "(folder / 'slow').touch()",
    "wrong": "weight.CopyFrom(onnx.numpy_helper.from_array(-onnx.numpy_helper.to_array(weight), 'w'))",
    "mates": _ADD_MEAN,
    "refuses": "raise CandidateError('there is nothing to do here')",
    "stumbles": "raise KeyError('layer')",
    "crashes": "os._exit(7)",
    "hangs": "time.sleep(600)",
    "segfaults": "ctypes.string_at(0)",
    "spins": "all(number == 0 for number in iter(int, 1))",
    "deaf": (
        "signal.signal(signal.SIGTERM, signal.SIG_IGN)\n"
        "        inner = subprocess.Popen(['sleep', '600'], start_new_session=True)\n"
        "        (folder.parent / 'inner').write_text(str(inner.pid))\n"
        "        all(os.kill(os.getpid(), signal.SIGTERM) is None for number in iter(int, 1))"
    ),
    "swells": "hoard = [np.ones(1 << 23, np.uint8) for number in range(10_000)]",
    "bursts": "hoard = np.ones(20 << 30, np.uint8)",
    "leaves": "os._exit(0)",
    "quits": "sys.exit()",
    "chatters": "[print('x' * 1000) for number in range(20_000)]; raise ValueError('all said')",
    "mutes": "os.close(1); os.close(2); sys.stdout.close(); raise ValueError('not a word')",
    "interrupts": "raise KeyboardInterrupt",
    "bases": "raise BaseException('not an Exception')",
    "orphans": "os.kill(os.getppid(), signal.SIGKILL); time.sleep(600)",
    "spoils": "Path(context.source.file).write_bytes(b'')",
    "escapes": "folder = Path(context.workspace).parents[3] / 'elsewhere'; folder.mkdir(exist_ok=True)",
    "links": "os.symlink('/etc/passwd', folder / 'passwd')",
    "broken": "model = onnx.ModelProto()",
}


@contextmanager
def odd_passes(folder: Path) -> Iterator[None]:
    """Install the passes for as long as the context lasts; they live in a folder of the test."""
    info = folder / "odd-1.0.dist-info"
    info.mkdir(parents=True)
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: odd\nVersion: 1.0\n")
    points = "\n".join(f"{name} = odd_{name}" for name in BODIES)
    (info / "entry_points.txt").write_text(f"[burnish.passes]\n{points}\n")
    for name, body in BODIES.items():
        (folder / f"odd_{name}.py").write_text(_PASS.format(name=name, body=body))

    def environment(home: Path, threads: int) -> dict[str, str]:
        return child_environment(home, threads) | {"PYTHONPATH": str(folder)}

    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(str(folder))
        patch.setattr(isolation, "child_environment", environment)
        yield
