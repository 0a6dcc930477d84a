"""Names of plugins: what a user may choose, and how a default one is made from a node's name.

A plugin name becomes a C++ identifier, a file name, an ONNX operator and a key of TensorRT's registry. The rule is
stricter than C's: it begins with a letter and holds no double underscore, because C++ reserves the other spellings.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Container

from plugin_autogen.errors import SelectionError, shorten

MAX_LENGTH = 128
"""Characters that a plugin name may have."""

TENSORRT_LIMIT = 4000
"""Bytes that we let a node or tensor of ours have; TensorRT refuses names of layers and tensors beyond 4096."""

DEFAULT_PREFIX = "tpat_"

_KEYWORDS = """
alignas alignof and and_eq asm atomic_cancel atomic_commit atomic_noexcept auto bitand bitor bool break case catch
char char8_t char16_t char32_t class co_await co_return co_yield compl concept const const_cast consteval constexpr
constinit continue decltype default delete do double dynamic_cast else enum explicit export extern false float for
friend goto if inline int long mutable namespace new noexcept not not_eq nullptr operator or or_eq private protected
public reflexpr register reinterpret_cast requires restrict return short signed sizeof static static_assert
static_cast struct switch synchronized template this thread_local throw true try typedef typeid typename union
unsigned using virtual void volatile wchar_t while xor xor_eq
"""
CPP_KEYWORDS = frozenset(_KEYWORDS.split())

_IDENTIFIER = re.compile(r"[A-Za-z][A-Za-z0-9_]*", re.ASCII)


def safe_identifier(text: str, limit: int = MAX_LENGTH) -> str:
    """The text as part of an identifier: letters, digits and single underscores, at most `limit` (>= 16) characters.

    Where nothing readable remains, or the result is cut, 8 hexadecimal digits of the text's hash tell it apart.
    """
    digest = hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    safe = re.sub(r"[^A-Za-z0-9]+", "_", text[: 4 * limit]).strip("_")
    if not safe:
        return f"node_{digest}"
    if len(text) > 4 * limit or len(safe) > limit:
        return f"{safe[: limit - 9].rstrip('_')}_{digest}"
    return safe


def unique(name: str, taken: Container[str], limit: int | None = None) -> str:
    """`name`, or `name_2`, `name_3`… when it is taken; the base is cut so that all keeps to `limit` characters."""
    if name not in taken:
        return name
    number = 2
    while True:
        suffix = f"_{number}"
        base = name if limit is None else name[: limit - len(suffix)].rstrip("_")
        if (candidate := base + suffix) not in taken:
            return candidate
        number += 1


def bounded(name: str) -> str:
    """`name`, or a cut one with 8 hexadecimal digits of its hash where TensorRT would refuse its length."""
    if len(name.encode("utf-8", "surrogatepass")) <= TENSORRT_LIMIT:
        return name
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:8]
    return f"{name[:MAX_LENGTH]}_{digest}"


def default_plugin_name(node_name: str, taken: Container[str]) -> str:
    """`tpat_<node name made safe>`, not one of `taken`."""
    name = DEFAULT_PREFIX + safe_identifier(node_name, MAX_LENGTH - len(DEFAULT_PREFIX))
    return unique(name, taken, MAX_LENGTH)


def check_plugin_name(name: str) -> None:
    """Raises `SelectionError` for a name that C++ or TensorRT does not leave free."""
    from plugin_autogen.graph import reserved_names

    shown = shorten(name, 60)
    if len(name) > MAX_LENGTH:
        raise SelectionError(
            f'plugin name "{shown}" has {len(name)} characters: choose one of at most {MAX_LENGTH} characters'
        )
    if not _IDENTIFIER.fullmatch(name):
        raise SelectionError(
            f'plugin name "{shown}" is no C identifier: use letters, digits and underscores, beginning with a letter'
        )
    if "__" in name:
        raise SelectionError(f'plugin name "{shown}" holds two underscores in a row, which C++ reserves: use one')
    if name in CPP_KEYWORDS:
        raise SelectionError(f'plugin name "{shown}" is a C++ keyword: choose another name')
    if name in reserved_names.TENSORRT_PLUGINS:
        raise SelectionError(f'plugin name "{shown}" belongs to a plugin of TensorRT\'s own: choose another name')
    if name in reserved_names.PARSER_OPERATORS:
        raise SelectionError(
            f'plugin name "{shown}" is an operator that TensorRT\'s parser imports by itself, so that the plugin would '
            "never be used: choose another name"
        )
