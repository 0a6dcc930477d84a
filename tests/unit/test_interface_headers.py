"""The project's declarations of TensorRT's plugin interfaces against the layout of NVIDIA's headers.

The expectations were taken from `g++ -fdump-lang-class` over NVIDIA's public headers of 8.2.1, 8.5.3, 8.6.0 and
8.6.1 (V2) and of 10.0.0, 10.13.0, 10.16, 11.0 and 11.1 (V3), which agree with each other in everything listed here.
"""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

import pytest

from plugin_autogen import resources


def names(text: str) -> list[str]:
    return text.split()


# Functions by slot, from the first virtual function on; ~ is a destructor, which takes two slots.
PLUGIN_V2 = names("""
    getTensorRTVersion getPluginType getPluginVersion getNbOutputs getOutputDimensions supportsFormat
    configureWithFormat initialize terminate getWorkspaceSize enqueue getSerializationSize serialize destroy clone
    setPluginNamespace getPluginNamespace ~ ~
""")
PLUGIN_V2_EXT = names("""
    getOutputDataType isOutputBroadcastAcrossBatch canBroadcastInputAcrossBatch configurePlugin attachToContext
    detachFromContext
""")
PLUGIN_V2_DYNAMIC_EXT = names("getOutputDimensions supportsFormatCombination configurePlugin getWorkspaceSize enqueue")
VERSIONED = names("getAPILanguage getInterfaceInfo ~ ~")

EXPECTED: dict[int, dict[str, list[str]]] = {
    2: {
        "IPluginV2DynamicExt": PLUGIN_V2 + PLUGIN_V2_EXT + PLUGIN_V2_DYNAMIC_EXT,
        "IPluginCreator": names("""
            getTensorRTVersion getPluginName getPluginVersion getFieldNames createPlugin deserializePlugin
            setPluginNamespace getPluginNamespace ~ ~
        """),
        "apiv::VExprBuilder": ["~", "~", "constant", "operation"],
        "apiv::VDimensionExpr": ["~", "~", "isConstant", "getConstantValue"],
        "IExprBuilder": ["~", "~"],
        "IDimensionExpr": ["~", "~"],
    },
    3: {
        "IPluginV3": [*VERSIONED, "getCapabilityInterface", "clone"],
        "IPluginV3OneCore": [*VERSIONED, "getPluginName", "getPluginVersion", "getPluginNamespace"],
        "IPluginV3OneBuild": [
            *VERSIONED,
            *names("""
            configurePlugin getOutputDataTypes getOutputShapes supportsFormatCombination getNbOutputs getWorkspaceSize
            getValidTactics getNbTactics getTimingCacheID getFormatCombinationLimit getMetadataString
            """),
        ],
        "IPluginV3OneRuntime": [
            *VERSIONED, "setTactic", "onShapeChange", "enqueue", "attachToContext", "getFieldsToSerialize",
        ],
        "IPluginCreatorV3One": [
            *VERSIONED, "createPlugin", "getFieldNames", "getPluginName", "getPluginVersion", "getPluginNamespace",
        ],
        "IPluginCreatorInterface": VERSIONED,
        "IPluginCapability": VERSIONED,
        "apiv::VExprBuilder": ["~", "~", "constant", "operation", "declareSizeTensor"],
        "apiv::VDimensionExpr": ["~", "~", "isConstant", "getConstantValue", "isSizeTensor"],
        "IExprBuilder": ["~", "~"],
        "IDimensionExpr": ["~", "~"],
    },
}  # fmt: skip

# Bytes.
SIZES = {
    2: {"Dims32": 36, "PluginTensorDesc": 48, "DynamicPluginTensorDesc": 120, "DimsExprs": 72, "PluginField": 24,
        "PluginFieldCollection": 16, "IExprBuilder": 16, "IDimensionExpr": 16, "IPluginV2DynamicExt": 8},
    3: {"Dims64": 72, "PluginTensorDesc": 88, "DynamicPluginTensorDesc": 304, "DimsExprs": 72, "PluginField": 24,
        "PluginFieldCollection": 16, "InterfaceInfo": 16, "IExprBuilder": 16, "IDimensionExpr": 16, "IPluginV3": 8},
}  # fmt: skip

DATA_TYPES = {
    2: {"FLOAT": 0, "HALF": 1, "INT8": 2, "INT32": 3, "BOOL": 4},
    3: {
        "FLOAT": 0,
        "HALF": 1,
        "INT8": 2,
        "INT32": 3,
        "BOOL": 4,
        "UINT8": 5,
        "FP8": 6,
        "BF16": 7,
        "INT64": 8,
        "INT4": 9,
    },
}

STUB = "#pragma once\ntypedef struct CUstream_st* cudaStream_t;\n"


@pytest.fixture(scope="module")
def stub_include(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An include folder with all that the declarations need of CUDA."""
    folder = tmp_path_factory.mktemp("include")
    (folder / "cuda_runtime_api.h").write_text(STUB)
    return folder


def compile_source(text: str, folder: Path, stub: Path, *options: str) -> subprocess.CompletedProcess[str]:
    (folder / "source.cpp").write_text(text)
    command = ["g++", "-std=c++14", "-Wall", "-Wextra", "-Werror", *options, "-c", "-o", "/dev/null"]
    command += ["-I", str(resources.interface_include()), "-I", str(stub), "source.cpp"]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)


def include(interface: int) -> str:
    return (
        f"#define PLUGIN_AUTOGEN_INTERFACE {interface}\n#define PLUGIN_AUTOGEN_TENSORRT_HEADERS 0\n"
        "#include <nvinfer_interface.h>\n"
    )


def slots(dump: str, name: str) -> list[str]:
    """The functions of a class by slot. A pure virtual function has no name in the dump: it appears as `?`."""
    match = re.search(
        rf"^Vtable for nvinfer1::(?:v_1_0::)?{re.escape(name)}$(.*?)^\s*$", dump, re.MULTILINE | re.DOTALL
    )
    assert match, f"no class {name} with virtual functions"
    found = []
    for line in match[1].splitlines():
        entry = re.match(r"^\d+\s+(?:\(int \(\*\)\(\.\.\.\)\))?(.*)$", line)
        if entry:
            function = entry[1].rpartition("::")[2]
            found.append("~" if "~" in function or function == "0" else "?" if "pure" in function else function)
    return found[2:]  # offset to top and type info


@pytest.mark.parametrize("interface", [2, 3])
def test_layout(interface: int, tmp_path: Path, stub_include: Path) -> None:
    result = compile_source(include(interface), tmp_path, stub_include, "-fdump-lang-class")
    assert result.returncode == 0, result.stderr
    (dump_file,) = tmp_path.glob("*.class")
    dump = dump_file.read_text()
    for name, expected in EXPECTED[interface].items():
        found = slots(dump, name)
        assert len(found) == len(expected), name
        for i, (here, there) in enumerate(zip(found, expected, strict=True)):
            assert here in (there, "?"), f"{name}, slot {i}"
    for name, size in SIZES[interface].items():
        match = re.search(rf"^Class nvinfer1::(?:v_1_0::)?{name}$\s+size=(\d+)", dump, re.MULTILINE)
        assert match, name
        assert int(match[1]) == size, name


# Every pure function under its name: the dump of a class that implements them shows which slot each has.
IMPLEMENTED = {
    2: """
struct Plugin : IPluginV2DynamicExt {
  AsciiChar const* getPluginType() const noexcept override { return ""; }
  AsciiChar const* getPluginVersion() const noexcept override { return ""; }
  int32_t getNbOutputs() const noexcept override { return 1; }
  int32_t initialize() noexcept override { return 0; }
  void terminate() noexcept override {}
  size_t getSerializationSize() const noexcept override { return 0; }
  void serialize(void*) const noexcept override {}
  void destroy() noexcept override {}
  void setPluginNamespace(AsciiChar const*) noexcept override {}
  AsciiChar const* getPluginNamespace() const noexcept override { return ""; }
  DataType getOutputDataType(int32_t, DataType const*, int32_t) const noexcept override { return DataType::kFLOAT; }
  void attachToContext(cudnnContext*, cublasContext*, IGpuAllocator*) noexcept override {}
  void detachFromContext() noexcept override {}
  IPluginV2DynamicExt* clone() const noexcept override { return nullptr; }
  DimsExprs getOutputDimensions(int32_t, DimsExprs const*, int32_t, IExprBuilder&) noexcept override { return {}; }
  bool supportsFormatCombination(int32_t, PluginTensorDesc const*, int32_t, int32_t) noexcept override { return true; }
  void configurePlugin(
    DynamicPluginTensorDesc const*, int32_t, DynamicPluginTensorDesc const*, int32_t) noexcept override {}
  size_t getWorkspaceSize(
    PluginTensorDesc const*, int32_t, PluginTensorDesc const*, int32_t) const noexcept override { return 0; }
  int32_t enqueue(PluginTensorDesc const*, PluginTensorDesc const*, void const* const*, void* const*, void*,
    cudaStream_t) noexcept override { return 0; }
};
struct Creator : IPluginCreator {
  AsciiChar const* getPluginName() const noexcept override { return ""; }
  AsciiChar const* getPluginVersion() const noexcept override { return ""; }
  PluginFieldCollection const* getFieldNames() noexcept override { return nullptr; }
  IPluginV2* createPlugin(AsciiChar const*, PluginFieldCollection const*) noexcept override { return nullptr; }
  IPluginV2* deserializePlugin(AsciiChar const*, void const*, size_t) noexcept override { return nullptr; }
  void setPluginNamespace(AsciiChar const*) noexcept override {}
  AsciiChar const* getPluginNamespace() const noexcept override { return ""; }
};
""",
    3: """
struct Core : IPluginV3OneCore {
  AsciiChar const* getPluginName() const noexcept override { return ""; }
  AsciiChar const* getPluginVersion() const noexcept override { return ""; }
  AsciiChar const* getPluginNamespace() const noexcept override { return ""; }
};
struct Build : IPluginV3OneBuild {
  int32_t configurePlugin(
    DynamicPluginTensorDesc const*, int32_t, DynamicPluginTensorDesc const*, int32_t) noexcept override { return 0; }
  int32_t getOutputDataTypes(DataType*, int32_t, DataType const*, int32_t) const noexcept override { return 0; }
  int32_t getOutputShapes(DimsExprs const*, int32_t, DimsExprs const*, int32_t, DimsExprs*, int32_t,
    IExprBuilder&) noexcept override { return 0; }
  bool supportsFormatCombination(
    int32_t, DynamicPluginTensorDesc const*, int32_t, int32_t) noexcept override { return true; }
  int32_t getNbOutputs() const noexcept override { return 1; }
};
struct Runtime : IPluginV3OneRuntime {
  int32_t onShapeChange(PluginTensorDesc const*, int32_t, PluginTensorDesc const*, int32_t) noexcept override {
    return 0;
  }
  int32_t enqueue(PluginTensorDesc const*, PluginTensorDesc const*, void const* const*, void* const*, void*,
    cudaStream_t) noexcept override { return 0; }
  IPluginV3* attachToContext(IPluginResourceContext*) noexcept override { return nullptr; }
  PluginFieldCollection const* getFieldsToSerialize() noexcept override { return nullptr; }
};
struct Plugin : IPluginV3 {
  IPluginCapability* getCapabilityInterface(PluginCapabilityType) noexcept override { return nullptr; }
  IPluginV3* clone() noexcept override { return nullptr; }
};
struct Creator : IPluginCreatorV3One {
  IPluginV3* createPlugin(AsciiChar const*, PluginFieldCollection const*, TensorRTPhase) noexcept override {
    return nullptr;
  }
  PluginFieldCollection const* getFieldNames() noexcept override { return nullptr; }
  AsciiChar const* getPluginName() const noexcept override { return ""; }
  AsciiChar const* getPluginVersion() const noexcept override { return ""; }
  AsciiChar const* getPluginNamespace() const noexcept override { return ""; }
};
""",
}
IMPLEMENTS = {
    2: {"Plugin": "IPluginV2DynamicExt", "Creator": "IPluginCreator"},
    3: {"Core": "IPluginV3OneCore", "Build": "IPluginV3OneBuild", "Runtime": "IPluginV3OneRuntime",
        "Plugin": "IPluginV3", "Creator": "IPluginCreatorV3One"},
}  # fmt: skip


@pytest.mark.parametrize("interface", [2, 3])
def test_every_slot_has_its_function(interface: int, tmp_path: Path, stub_include: Path) -> None:
    text = include(interface) + f"namespace nvinfer1 {{ {IMPLEMENTED[interface]} }}\n"
    for name in IMPLEMENTS[interface]:
        text += f"nvinfer1::{name} instanceOf{name};\n"
    result = compile_source(text, tmp_path, stub_include, "-fdump-lang-class")
    assert result.returncode == 0, result.stderr
    (dump_file,) = tmp_path.glob("*.class")
    dump = dump_file.read_text()
    for name, base in IMPLEMENTS[interface].items():
        assert slots(dump, name) == EXPECTED[interface][base], name


@pytest.mark.parametrize("interface", [2, 3])
def test_numbers_and_names_of_interfaces(interface: int, tmp_path: Path, stub_include: Path) -> None:
    checks = [f'static_assert(static_cast<int>(DataType::k{n}) == {v}, "");' for n, v in DATA_TYPES[interface].items()]
    operations = names("SUM PROD MAX MIN SUB EQUAL LESS FLOOR_DIV CEIL_DIV")
    checks += [
        f'static_assert(static_cast<int>(DimensionOperation::k{n}) == {i}, "");' for i, n in enumerate(operations)
    ]
    checks += [
        'static_assert(static_cast<int>(TensorFormat::kLINEAR) == 0, "");',
        'static_assert(static_cast<int>(PluginFieldType::kCHAR) == 6, "");',
        'static_assert(sizeof(DataType) == 4 && sizeof(TensorFormat) == 4 && sizeof(PluginFieldType) == 4, "");',
        "static_assert(offsetof(PluginTensorDesc, type) == sizeof(Dims) && offsetof(DynamicPluginTensorDesc, max) =="
        ' sizeof(PluginTensorDesc) + sizeof(Dims), "");',
    ]
    if interface == 3:
        checks += [
            'static_assert(static_cast<int>(PluginCapabilityType::kRUNTIME) == 2, "");',
            'static_assert(static_cast<int>(TensorRTPhase::kRUNTIME) == 1, "");',
        ]
    text = include(interface) + "namespace nvinfer1 {\n" + "\n".join(checks) + "\n}\n"
    result = compile_source(text, tmp_path, stub_include)
    assert result.returncode == 0, result.stderr


# The strings by which TensorRT asks for an interface, as its headers have them.
def test_interface_info() -> None:
    header = (resources.interface_include() / "nvinfer_plugin_v3.h").read_text()
    assert re.findall(r'InterfaceInfo\{"([^"]*)", (\d+), (\d+)\}', header) == [
        ("PLUGIN", "1", "0"),
        ("PLUGIN_V3ONE_CORE", "1", "0"),
        ("PLUGIN_V3ONE_BUILD", "1", "0"),
        ("PLUGIN_V3ONE_RUNTIME", "1", "0"),
        ("PLUGIN CREATOR_V3ONE", "1", "0"),
    ]


@pytest.mark.parametrize(
    ("interface", "installed", "chosen"), [(2, 8, True), (2, 10, False), (3, 8, False), (3, 10, True), (3, 11, True)]
)
def test_official_headers_win_when_their_release_fits(
    interface: int, installed: int, chosen: bool, tmp_path: Path, stub_include: Path
) -> None:
    official = tmp_path / "official"
    official.mkdir()
    (official / "NvInferVersion.h").write_text(f"#define NV_TENSORRT_MAJOR {installed}\n")
    (official / "NvInferRuntime.h").write_text("#define OFFICIAL 1\n")
    text = f"#define PLUGIN_AUTOGEN_INTERFACE {interface}\n#include <nvinfer_interface.h>\n"
    text += ("#ifndef" if chosen else "#ifdef") + " OFFICIAL\n#error the wrong header\n#endif\n"
    result = compile_source(text, tmp_path, stub_include, "-I", str(official))
    assert result.returncode == 0, result.stderr
