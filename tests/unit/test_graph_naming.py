import re

import pytest

from plugin_autogen.errors import SelectionError
from plugin_autogen.graph import naming, reserved_names

HOSTILE = [
    "a/b.c",
    '"; rm -rf /',
    "../../etc/passwd",
    "x\ny\0z",
    "卷积",
    "é",
    "",
    "__a__b__",
    "9lives",
    "n" * 10_000,
    "\ud800",
]


@pytest.mark.parametrize("name", HOSTILE)
def test_default_names_are_plugin_names(name: str) -> None:
    plugin = naming.default_plugin_name(name, set())
    naming.check_plugin_name(plugin)
    assert plugin.startswith("tpat_")


def test_default_names_stay_readable_and_differ() -> None:
    assert naming.default_plugin_name("model/Conv_3.out", set()) == "tpat_model_Conv_3_out"
    assert naming.default_plugin_name("a", {"tpat_a", "tpat_a_2"}) == "tpat_a_3"
    assert naming.default_plugin_name("卷积", set()) != naming.default_plugin_name("池化", set())
    long = [naming.default_plugin_name("n" * 10_000 + end, set()) for end in "ab"]
    assert long[0] != long[1] and all(len(n) <= naming.MAX_LENGTH for n in long)
    taken = {long[0]}
    assert len(naming.default_plugin_name("n" * 10_000 + "a", taken)) <= naming.MAX_LENGTH
    assert naming.default_plugin_name("n" * 10_000 + "a", taken) not in taken


@pytest.mark.parametrize(
    ("name", "why"),
    [
        ("", "C identifier"),
        ("9a", "C identifier"),
        ("_A", "C identifier"),
        ("a-b", "C identifier"),
        ("a b", "C identifier"),
        ("a\n", "C identifier"),
        ("é", "C identifier"),
        ("a__b", "two underscores"),
        ("class", "C\\+\\+ keyword"),
        ("a" * 129, "at most 128"),
        ("EfficientNMS_TRT", "plugin of TensorRT"),
        ("OneHot", "parser imports"),
        ("TRT_FloorDiv", "parser imports"),
    ],
)
def test_names_that_are_not_free(name: str, why: str) -> None:
    with pytest.raises(SelectionError, match=why) as caught:
        naming.check_plugin_name(name)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400


@pytest.mark.parametrize("name", ["OneHotPlugin", "tpat_OneHot", "x", "a" * 128, "Unique"])
def test_free_names(name: str) -> None:
    naming.check_plugin_name(name)


def test_reserved_names_are_words() -> None:
    for name in reserved_names.PARSER_OPERATORS | reserved_names.TENSORRT_PLUGINS:
        assert re.fullmatch(r"\w+", name)
    assert {"Conv", "If", "QuantizeLinear"} <= reserved_names.PARSER_OPERATORS
    assert not {"ConvInteger", "DynamicQuantizeLinear"} & reserved_names.PARSER_OPERATORS
