"""Swish as an onnxscript function: a composition of ONNX's operators."""

from onnxscript import opset17 as op
from onnxscript import script
from onnxscript.values import Opset


@script(Opset("custom_domain", 1))
def Swish(x, beta: float = 1.0):
    return x * op.Sigmoid(beta * x)
