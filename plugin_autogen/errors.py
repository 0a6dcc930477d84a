"""Errors that reach the user: one line each, naming the node, the operator, the cause and the remedy."""

from __future__ import annotations


class PluginAutogenError(Exception):
    """Base of every error that the tool raises on purpose. Its text is the one line that the user reads.

    Attributes:
        node: name of the node at fault in the plugin's own model, where a stage knows it.
    """

    node: str | None = None


class ModelError(PluginAutogenError):
    """The ONNX file is missing, broken, or says too little (a shape that nothing decides, say)."""


class SelectionError(PluginAutogenError):
    """The selected names, types or plugin names do not fit the model or each other."""


class UnsupportedError(PluginAutogenError):
    """An operator, attribute, data type or shape that cannot become a plugin."""


class ConverterError(PluginAutogenError):
    """A user's file of converters is missing, fails, or gives nothing; or a converter cannot tell a type."""


class ToolchainError(PluginAutogenError):
    """No usable compiler, an unknown architecture, or a compiler that failed."""


class OutputError(PluginAutogenError):
    """A file or folder that cannot be written."""


class CheckError(PluginAutogenError):
    """The generated code computes other numbers than the reference."""


class TuningError(PluginAutogenError):
    """No device to tune on, or a tuning database that is missing, broken or another device's."""


class EngineError(PluginAutogenError):
    """TensorRT is missing, or its parser or builder refused the rewritten model."""


def one_line(text: object) -> str:
    """The text with control characters and line breaks made harmless, for what comes from strangers."""
    return " ".join("".join(c if c.isprintable() else " " for c in str(text)).split())


def shorten(text: object, limit: int = 120) -> str:
    """`one_line`, cut in the middle to at most `limit` characters: names may have thousands."""
    line = one_line(text)
    if len(line) <= limit:
        return line
    head = (limit - 1) // 2
    return f"{line[:head]}…{line[-(limit - 1 - head) :]}"
