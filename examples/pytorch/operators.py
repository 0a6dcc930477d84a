"""What mine::Softclip of export.py means, for `onnx_to_plugin --converters`."""

from __future__ import annotations

import numpy as np
from tvm import te, tirx

from plugin_autogen import NodeContext, converter


def softclip_in_numpy(x, limit):
    return limit * np.tanh(x / limit)


@converter("Softclip", domain="mine", reference=softclip_in_numpy)
def softclip(context: NodeContext):
    limit = context.attribute("limit")

    def compute(x):
        return te.compute(x.shape, lambda *i: limit * tirx.tanh(x(*i) / limit), name="softclip")

    return context.te(compute, context.input(0))
