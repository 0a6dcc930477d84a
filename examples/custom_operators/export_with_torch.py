"""Exports swish.onnx, roll.onnx and grid_sample_5d.onnx with PyTorch (2.7 or later, not a dependency).

python examples/custom_operators/export_with_torch.py DIR
"""

from __future__ import annotations

import sys
from pathlib import Path

import onnxscript
import torch
from torch import nn


class Swish(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, beta):
        return x * torch.sigmoid(beta * x)

    @staticmethod
    def symbolic(g, x, beta):
        return g.op("custom_domain::Swish", x, beta_f=beta)


class SwishNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 4, 3, padding=1)
        self.conv2 = nn.Conv2d(4, 6, 3, stride=2, bias=False)

    def forward(self, x):
        x = Swish.apply(self.conv1(x), 1.0)
        x = Swish.apply(self.conv2(x), 1.5)
        return nn.functional.adaptive_avg_pool2d(x, 1).flatten(1)


class Windows(nn.Module):
    def forward(self, x):
        x = torch.roll(x, (-2, -2), (1, 2))
        return torch.roll(x.softmax(-1), (2, 2), (1, 2))


custom = onnxscript.values.Opset("custom_domain", 1)


def translate_roll(x, shifts: list[int], dims: list[int] = ()):
    return custom.Roll(x, shifts=shifts, dims=dims)


class Volume(nn.Module):
    def forward(self, volume, grid):
        return nn.functional.grid_sample(volume, grid, padding_mode="border", align_corners=False).relu()


def main(folder: Path) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    torch.onnx.export(
        SwishNet().eval(),
        (torch.randn(1, 3, 12, 12),),
        folder / "swish.onnx",
        input_names=["x"],
        output_names=["y"],
        custom_opsets={"custom_domain": 1},
        dynamo=False,
    )
    torch.onnx.export(
        Windows(),
        (torch.randn(1, 8, 7, 16),),
        folder / "roll.onnx",
        custom_translation_table={torch.ops.aten.roll.default: translate_roll},
        dynamo=True,
    )
    torch.onnx.export(
        Volume(),
        (torch.randn(1, 2, 5, 6, 7), torch.rand(1, 3, 4, 5, 3) * 2 - 1),
        folder / "grid_sample_5d.onnx",
        opset_version=20,
        dynamo=False,
    )


if __name__ == "__main__":
    main(Path(sys.argv[1]))
