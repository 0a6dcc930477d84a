"""The element types that meet here: ONNX's, numpy's, TVM's and TensorRT's, in one table.

The enumerators and numbers of TensorRT's `DataType` are those of NvInferRuntimeBase.h (8.6 for kUINT8 and kFP8, 10.0
for kBF16, kINT64 and kINT4, 10.8 for kFP4).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from plugin_autogen.errors import UnsupportedError

if TYPE_CHECKING:
    import numpy as np


@dataclass(frozen=True)
class ElementType:
    """One element type under the names that each library has for it.

    Attributes:
        name: numpy's (or ml_dtypes') and TVM's common name, `float32`.
        onnx: the number in ONNX's `TensorProto.DataType`.
        bits: storage bits of one element.
        tensorrt: TensorRT's enumerator without its `k`, `FLOAT`; None where TensorRT has no such type.
    """

    name: str
    onnx: int
    bits: int
    tensorrt: str | None = None

    @property
    def bytes(self) -> int:
        """Storage bytes of one element (whole bytes only: sub-byte types round up)."""
        return (self.bits + 7) // 8

    @property
    def held_as(self) -> str:
        """TVM's name of the type that holds one element in memory: four-bit integers take a byte each."""
        return f"{self.name.removesuffix('4')}8" if self.bits == 4 else self.name

    @property
    def numpy(self) -> np.dtype:
        """The numpy dtype; ml_dtypes' for bfloat16 and the 8-bit floats."""
        import ml_dtypes
        import numpy as np

        return np.dtype(getattr(ml_dtypes, self.name)) if hasattr(ml_dtypes, self.name) else np.dtype(self.name)

    @property
    def is_float(self) -> bool:
        return self.name.startswith(("float", "bfloat"))

    @property
    def is_integer(self) -> bool:
        return self.name.startswith(("int", "uint"))

    def __str__(self) -> str:
        return self.name


FLOAT32 = ElementType("float32", 1, 32, "FLOAT")
UINT8 = ElementType("uint8", 2, 8, "UINT8")
INT8 = ElementType("int8", 3, 8, "INT8")
UINT16 = ElementType("uint16", 4, 16)
INT16 = ElementType("int16", 5, 16)
INT32 = ElementType("int32", 6, 32, "INT32")
INT64 = ElementType("int64", 7, 64, "INT64")
BOOL = ElementType("bool", 9, 8, "BOOL")
FLOAT16 = ElementType("float16", 10, 16, "HALF")
FLOAT64 = ElementType("float64", 11, 64)
UINT32 = ElementType("uint32", 12, 32)
UINT64 = ElementType("uint64", 13, 64)
BFLOAT16 = ElementType("bfloat16", 16, 16, "BF16")
FLOAT8_E4M3FN = ElementType("float8_e4m3fn", 17, 8, "FP8")
FLOAT8_E5M2 = ElementType("float8_e5m2", 19, 8)
UINT4 = ElementType("uint4", 21, 4)
INT4 = ElementType("int4", 22, 4, "INT4")

ELEMENT_TYPES: tuple[ElementType, ...] = (
    FLOAT32, UINT8, INT8, UINT16, INT16, INT32, INT64, BOOL, FLOAT16, FLOAT64, UINT32, UINT64, BFLOAT16,
    FLOAT8_E4M3FN, FLOAT8_E5M2, UINT4, INT4,
)  # fmt: skip

_BY_NAME = {t.name: t for t in ELEMENT_TYPES}
_BY_ONNX = {t.onnx: t for t in ELEMENT_TYPES}


def from_name(name: str) -> ElementType:
    """The type of this numpy/TVM name. Raises `UnsupportedError` for a name that the table lacks."""
    try:
        return _BY_NAME[name]
    except KeyError:
        raise UnsupportedError(f"element type {name!r} is not one that a plugin can hold") from None


def from_onnx(number: int) -> ElementType:
    """The type of this ONNX `TensorProto.DataType`. Raises `UnsupportedError` for one that the table lacks."""
    try:
        return _BY_ONNX[number]
    except KeyError:
        import onnx

        known = number in onnx.TensorProto.DataType.values()
        name = onnx.TensorProto.DataType.Name(number) if known else str(number)
        raise UnsupportedError(f"ONNX element type {name} is not one that a plugin can hold") from None
