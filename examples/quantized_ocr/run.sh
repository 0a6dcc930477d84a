#!/usr/bin/env bash
# A dynamically quantized OCR model, which no TensorRT imports, becomes a TensorRT-RTX engine. No GPU is needed.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
source "$here/../../scripts/environment.sh" nvcc,engine
work=${1:-"$here/work"}
mkdir -p "$work"

echo "== the model: RapidOCR's text recognition, quantized dynamically"
python "$here/prepare.py" "$work"

echo "== before: TensorRT's parser refuses it"
if plugin_autogen build -i "$work/recognition_int8.onnx"; then
  echo "the parser took the model as it is: nothing to show" >&2
  exit 1
fi

echo "== 94 nodes become plugins"
onnx_to_plugin -i "$work/recognition_int8.onnx" -o "$work/recognition_tpat.onnx" \
  --auto --tensorrt rtx --library ocr_plugins --plugin_dir "$work/plugins"

echo "== after: the engine is built"
plugin_autogen build -i "$work/recognition_tpat.onnx" -o "$work/recognition.engine" --plugins "$work/plugins/lib/ocr_plugins.so"
