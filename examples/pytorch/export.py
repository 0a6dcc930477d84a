"""Exports a network with an operator of its own to ONNX (PyTorch 2.8 or later and onnxscript).

python examples/pytorch/export.py DIR

DIR gets net.onnx, and net.npz: inputs `x`, a batch of 3, and the network's outputs `y` for them.
"""

from __future__ import annotations

import sys
from pathlib import Path

import numpy as np
import torch
from torch import nn


def softclip(x, limit: float):
    """Bends x smoothly so that it stays between -limit and limit. Stands for a kernel of your own.

    Its export is one node of a domain of its own, of which ONNX knows the name and no more.
    """
    if torch.onnx.is_in_onnx_export():
        return torch.onnx.ops.symbolic(
            "mine::Softclip", (x,), {"limit": limit}, dtype=x.dtype, shape=x.shape, version=1
        )
    return limit * torch.tanh(x / limit)


class Net(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.conv = nn.Conv2d(3, 8, 3, stride=2, padding=1)
        self.head = nn.Linear(8, 10)

    def forward(self, x):
        x = softclip(self.conv(x), 0.5)
        return softclip(self.head(x.mean((2, 3))), 2.0)


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    torch.manual_seed(0)
    net = Net().eval()
    x = torch.randn(3, 3, 32, 32)
    program = torch.onnx.export(
        net,
        (x,),
        input_names=["x"],
        output_names=["y"],
        dynamic_shapes=[{0: torch.export.Dim("batch")}],
        dynamo=True,
    )
    for node in program.model.graph:
        node.metadata_props.clear()  # stack traces, which name folders of this machine
    program.save(folder / "net.onnx", external_data=False)
    with torch.no_grad():
        np.savez(folder / "net.npz", x=x.numpy(), y=net(x).numpy())


if __name__ == "__main__":
    main(Path(sys.argv[1]))
