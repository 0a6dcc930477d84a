"""ONNX's node tests through the whole pipeline: the measure of what works."""
