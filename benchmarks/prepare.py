"""Train a net and write it as a user would hand it in; kept between runs until its code changes."""

import inspect
import shutil
import sys
from pathlib import Path

import torch

from benchmarks.hand_made.base import Prepared
from benchmarks.nets import base
from benchmarks.nets.base import Net
from burnish.examples import digits
from burnish.export import export_module
from registry.digest import json_digest
from tasks.optimizer.dataset import Dataset, save_dataset

PROGRAM_FILE = "model.pt2"
EVALUATION_FILE = "evaluation.npz"
CALIBRATION_FILE = "calibration.npz"
_WEIGHTS_FILE = "weights.pt"
_KEY_FILE = "made_of.txt"


def prepare(net: Net, folder: Path) -> Prepared:
    """Return a net with its weights, from the folder if its code is what it was, and see to it that its files exist."""
    key = net_digest(net)
    kept = folder / _KEY_FILE
    samples = net.samples()
    if kept.is_file() and kept.read_text(encoding="utf-8") == key:
        module = net.build()
        module.load_state_dict(torch.load(folder / _WEIGHTS_FILE, weights_only=True))
        return Prepared(net, module.eval(), samples)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    module = net.train()
    torch.save(module.state_dict(), folder / _WEIGHTS_FILE)
    torch.export.save(export_module(module, samples.evaluation[:1]), folder / PROGRAM_FILE)
    save_dataset(Dataset({net.input_name: samples.evaluation}, samples.labels), folder / EVALUATION_FILE)
    save_dataset(Dataset({net.input_name: samples.calibration}), folder / CALIBRATION_FILE)
    kept.write_text(key, encoding="utf-8")
    return Prepared(net, module, samples)


def net_digest(net: Net) -> str:
    """Return the digest of what the files follow from: the code that makes them and the version of PyTorch."""
    modules = (sys.modules[net.build.__module__], base, digits, sys.modules[__name__])
    return json_digest({"code": [inspect.getsource(module) for module in modules], "torch": torch.__version__})
