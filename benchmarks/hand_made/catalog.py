"""Every hand-made line, the eager module first."""

from benchmarks.hand_made import onnx_runtime, open_vino, pytorch

LINES = {line.name: line for line in (*pytorch.LINES, *onnx_runtime.LINES, *open_vino.LINES)}
