#!/usr/bin/env bash
# A PyTorch network with an operator of its own becomes a TensorRT-RTX engine for any batch up to 16. No GPU is needed, and
# no PyTorch either: net.onnx is what export.py writes. Export anew, with a Python that has PyTorch, by
#   python examples/pytorch/export.py examples/pytorch
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
source "$here/../../scripts/environment.sh" nvcc,engine
work=${1:-"$here/work"}
mkdir -p "$work"

echo "== what TensorRT does not take"
plugin_autogen inspect -i "$here/net.onnx" --converters "$here/operators.py" --tensorrt rtx

echo "== becomes plugins"
onnx_to_plugin -i "$here/net.onnx" -o "$work/net_tpat.onnx" --auto --converters "$here/operators.py" \
  --tensorrt rtx --library net_plugins

echo "== and the engine is built"
plugin_autogen build -i "$work/net_tpat.onnx" -o "$work/net.engine" --plugins "$work/plugins/lib/net_plugins.so" \
  --minShapes=x:1x3x32x32 --optShapes=x:4x3x32x32 --maxShapes=x:16x3x32x32

echo "== on a machine with a GPU, next:"
echo "python $here/../python/run_engine.py $work/net.engine --plugins $work/plugins/lib/net_plugins.so --inputs $here/net.npz"
