#!/usr/bin/env bash
# Quantized OCR models with their own dynamic axes become TensorRT-RTX engines for a range of pictures. No GPU is needed.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
source "$here/../../scripts/environment.sh" nvcc,engine
work=${1:-"$here/work"}
mkdir -p "$work"

echo "== the models: RapidOCR's text detection and recognition, quantized dynamically, any batch and size of picture"
python "$here/prepare.py" "$work"

plugins() { # name of the model, operators
  local name=$1
  shift
  onnx_to_plugin -i "$work/${name}_int8.onnx" -o "$work/${name}_tpat.onnx" -t "$@" \
    --tensorrt rtx --library "${name}_plugins" --plugin_dir "$work/${name}_plugins"
}

engine() { # name of the model, smallest, best and largest picture
  plugin_autogen build -i "$work/$1_tpat.onnx" -o "$work/$1.engine" --plugins "$work/$1_plugins/lib/$1_plugins.so" \
    --minShapes="x:$2" --optShapes="x:$3" --maxShapes="x:$4"
}

echo "== the nodes that no TensorRT imports become plugins with no shape fixed"
plugins detection DynamicQuantizeLinear ConvInteger
plugins recognition DynamicQuantizeLinear ConvInteger MatMulInteger

echo "== the engines are built with a profile"
engine detection 1x3x32x32 1x3x640x640 4x3x960x960
engine recognition 1x3x48x32 1x3x48x320 8x3x48x2304
