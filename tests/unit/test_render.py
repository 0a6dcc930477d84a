"""The generated sources: what is in them, what never is, and that compilers and the linker take them."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from plugin_autogen import dtypes, resources
from plugin_autogen.build.toolchain import find_toolchain
from plugin_autogen.codegen import expr as ex
from plugin_autogen.codegen.expr import Binary, Const, Expr, Select, Symbol
from plugin_autogen.codegen.plan import BufferRef, Constant, Copy, Kernel, Launch, Loop, PluginPlan, Space, TensorSpec
from plugin_autogen.codegen.render import INTERFACE_HEADERS, PROJECT_FILES, render_library, render_plugin
from plugin_autogen.errors import PluginAutogenError, UnsupportedError
from plugin_autogen.releases import RELEASES, Release
from tests import plans

V2, V3 = RELEASES["8"], RELEASES["10"]
CPP_FILES = (".cu", ".h", ".cpp", ".S")


def with_plan(plan: PluginPlan, **changes: object) -> PluginPlan:
    """The plan with fields of its only variant changed."""
    return PluginPlan(plan.name, (replace(plan.default, **changes),))  # type: ignore[arg-type]


def write(folder: Path, files: dict[str, bytes]) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    for name, content in files.items():
        (folder / name).write_bytes(content)


def text(files: dict[str, bytes], name: str) -> str:
    return files[name].decode()


@pytest.mark.parametrize("release", RELEASES.values(), ids=RELEASES)
@pytest.mark.parametrize("make", plans.ALL)
def test_files(make: Callable[[], PluginPlan], release: Release) -> None:
    plan = make()
    files = render_plugin(plan, release)
    assert files == render_plugin(make(), release), "the same plan gives the same bytes"
    expected = {"plan.h", "plugin.cpp", "basics.h", "runtime.h", "support.h", "binding.h", "plan.json"}
    expected |= {"kernels.cu", "kernels.cuh"}
    expected |= {"kernels_1.cu", "kernels_1.cuh"} if len(plan.variants) > 1 else set()
    expected |= {"constants.S", "constants.bin"} if plan.default.constants else set()
    assert set(files) == expected
    assert text(files, "kernels.cuh") == plan.default.source
    assert plan.fingerprint in text(files, "plan.h")
    data = json.loads(files["plan.json"])
    assert (data["name"], data["fingerprint"], len(data["variants"])) == (
        plan.name,
        plan.fingerprint,
        len(plan.variants),
    )


def test_kernels_do_not_see_tensorrt() -> None:
    files = render_plugin(plans.scan(), V3)
    for name in ("kernels.cu", "runtime.h", "basics.h"):
        assert "nvinfer" not in text(files, name).lower()
        assert not re.search(r"#include <(map|memory|string|vector|mutex|tuple)>", text(files, name))
    assert "<<<" not in text(files, "kernels.cu")


def test_names_of_strangers_stay_out_of_the_sources() -> None:
    hostile = 'HOSTILE"; */ \\\n #error "x" ??/'
    scan = plans.scan().default
    n = Symbol(hostile)

    def renamed(e: Expr) -> Expr:
        if e == Symbol("n"):
            return n
        if isinstance(e, Binary):
            return Binary(e.op, renamed(e.a), renamed(e.b))
        return e

    plan = with_plan(
        plans.scan(),
        inputs=(TensorSpec(hostile, dtypes.FLOAT32, (n, Const(16))),),
        outputs=tuple(TensorSpec(hostile, t.dtype, tuple(map(renamed, t.shape))) for t in scan.outputs),
        dimensions=(replace(scan.dimensions[0], symbol=hostile),),
        constants=(Constant(hostile, dtypes.INT8, (1,), b"x"),),
        steps=(
            Loop(hostile + "i", n, (Copy(BufferRef(Space.OUTPUT), BufferRef(Space.INPUT), Symbol(hostile + "i")),)),
        ),
    )
    for release in (V2, V3):
        files = render_plugin(plan, release)
        for name, content in files.items():
            if name.endswith(CPP_FILES):
                assert b"HOSTILE" not in content, name
        assert json.loads(files["plan.json"])["variants"][0]["inputs"][0]["name"] == hostile
        source = text(files, "kernels.cu")
        assert "for (int64_t i0 = 0; i0 < s0; ++i0)" in source
        assert "copy(at(outputs[0], 0), at(inputs[0], 0), i0, stream)" in source


@pytest.mark.parametrize("name", ["", "1x", "a b", 'x"', "x;", "../x", "x\n", "é"])
def test_names_that_are_no_identifiers(name: str) -> None:
    with pytest.raises(PluginAutogenError, match="no C identifier"):
        render_plugin(plans.add(name), V3)
    with pytest.raises(PluginAutogenError, match="no C identifier"):
        render_library("x", [name], V3)
    with pytest.raises(PluginAutogenError, match="no C identifier"):
        render_library(name, ["x"], V3)


def test_library_needs_each_plugin_once() -> None:
    for names in ([], ["a", "a"]):
        with pytest.raises(PluginAutogenError, match="at least one plugin"):
            render_library("library", names, V3)


def test_border_types() -> None:
    bool_add = with_plan(plans.add(), outputs=(TensorSpec("flag\n" + "x" * 5000, dtypes.BOOL, (Const(4), Const(100))),))
    assert "DataType::kBOOL" in text(render_plugin(bool_add, V3), "plan.h")
    with pytest.raises(UnsupportedError, match="type bool") as caught:
        render_plugin(bool_add, V2)
    assert "\n" not in str(caught.value) and len(str(caught.value)) < 400
    for release in RELEASES.values():
        uint8 = with_plan(plans.add(), inputs=(TensorSpec("x", dtypes.UINT8, (Const(4),)),))
        with pytest.raises(UnsupportedError, match="type uint8"):
            render_plugin(uint8, release)


def test_rank_limit() -> None:
    nine = with_plan(plans.add(), outputs=(TensorSpec("z", dtypes.FLOAT32, (Const(1),) * 9),))
    with pytest.raises(UnsupportedError, match="rank 9"):
        render_plugin(nine, V3)


def test_plans_that_contradict_themselves() -> None:
    launch = plans.add().default.steps[0]
    assert isinstance(launch, Launch)
    wrong: list[tuple[dict[str, object], str]] = [
        ({"steps": (replace(launch, kernel="other"),)}, "launched, not defined"),
        ({"steps": (replace(launch, arguments=launch.arguments[:2]),)}, "declares"),
        ({"steps": (replace(launch, arguments=(*launch.arguments[:2], Const(1))),)}, "declares"),
        ({"steps": (replace(launch, grid=(Symbol("m"), ex.ONE, ex.ONE)),)}, "gives m its value"),
        ({"outputs": ()}, "no output"),
        ({"kernels": (Kernel("add kernel", ()),), "steps": ()}, "no C identifier"),
    ]
    for changes, message in wrong:
        with pytest.raises(PluginAutogenError, match=message):
            render_plugin(with_plan(plans.add(), **changes), V3)
    two = PluginPlan("two", (plans.add().default, plans.weighted_row_sum().default))
    with pytest.raises(PluginAutogenError, match="variants differ"):
        render_plugin(two, V3)


def test_constants_lie_aligned_and_equal_ones_once() -> None:
    plan = plans.weighted_row_sum()
    files = render_plugin(plan, V3)
    bias, weights = (c.data for c in plan.default.constants)
    blob = files["constants.bin"]
    assert blob == bias.ljust(256, b"\0") + weights
    assert "at(constants, 256)" in text(files, "kernels.cu")
    twice = PluginPlan(plan.name, (plan.default, plan.default))
    files = render_plugin(twice, V3)
    assert files["constants.bin"] == blob
    assert "at(constants, 256)" in text(files, "kernels_1.cu")


def test_constants_beyond_the_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("plugin_autogen.codegen.render.MAX_CONSTANT_BYTES", 512)
    with pytest.raises(UnsupportedError, match="constants take"):
        render_plugin(plans.weighted_row_sum(), V3)


def test_names_of_kernels_and_helpers_are_unique() -> None:
    def renamed(files: dict[str, bytes], name: str = "kernels.cu") -> dict[str, str]:
        return dict(re.findall(r"^#define (\w+) (\w+)$", text(files, name), re.MULTILINE))

    one, other = render_plugin(plans.add("a"), V3), render_plugin(plans.add("b"), V3)
    assert set(renamed(one)) == {"add_kernel", "make_half2_pair"}
    assert not set(renamed(one).values()) & set(renamed(other).values())
    # An overload of a CUDA function keeps its name and becomes local.
    assert "static __device__ half max(half a, half b);" in text(one, "kernels.cu")
    two = render_plugin(plans.two_types(), V3)
    assert not set(renamed(two).values()) & set(renamed(two, "kernels_1.cu").values())


# Output dimensions: the calls must give what the expression gives.


class Builder:
    """The templates' `ExpressionBuilder` with TensorRT's documented operations, on the numbers themselves."""

    def __init__(self, dimensions: dict[tuple[int, int], int]) -> None:
        self.dimensions = dimensions

    def evaluate(self, calls: str) -> int:
        value = eval(calls, {"e": self})
        assert isinstance(value, int)
        return value

    def dimension(self, tensor: int, axis: int) -> int:
        return self.dimensions[tensor, axis]

    def constant(self, value: int) -> int:
        return value

    def sum(self, a: int, b: int) -> int:
        return a + b

    def difference(self, a: int, b: int) -> int:
        return a - b

    def product(self, a: int, b: int) -> int:
        return a * b

    def minimum(self, a: int, b: int) -> int:
        return min(a, b)

    def maximum(self, a: int, b: int) -> int:
        return max(a, b)

    def floorDivide(self, a: int, b: int) -> int:
        return a // b

    def modulo(self, a: int, b: int) -> int:
        return a - (a // b) * b

    def less(self, a: int, b: int) -> int:
        return int(a < b)

    def equal(self, a: int, b: int) -> int:
        return int(a == b)

    def negate(self, condition: int) -> int:
        assert condition in (0, 1)
        return 1 - condition

    def select(self, condition: int, a: int, b: int) -> int:
        assert condition in (0, 1)
        return condition * a + (1 - condition) * b


N = Symbol("n")
EXPRESSIONS: list[Expr] = [
    *(Binary(op, N, Const(3)) for op in ("+", "-", "*", "//", "%", "min", "max", "<", "<=", "==", "!=", "&&", "||")),
    *(Binary(op, Const(7), N) for op in ("-", "//", "%", "<", "<=", "==", "!=")),
    Select(N, N, Const(9)),
    Select(Binary("<", N, Const(4)), Binary("*", N, N), Const(1)),
    Select(Binary("&&", Binary("<", Const(1), N), Binary("%", N, Const(2))), Const(5), N),
    Select(Binary("||", Binary("-", N, Const(2)), Const(0)), Const(5), N),
    Binary("//", Binary("-", N, Const(5)), Const(2)),
]


def output_dimension(expr: Expr, release: Release = V3) -> str:
    outputs = (TensorSpec("y", dtypes.FLOAT32, (expr,)),)
    files = render_plugin(with_plan(plans.scan(), outputs=outputs, steps=(), kernels=()), release)
    (calls,) = re.findall(r"outputs\[0\]\.d\[0\] = (.*);", text(files, "plan.h"))
    return str(calls)


@pytest.mark.parametrize("expr", EXPRESSIONS, ids=lambda e: json.dumps(ex.to_json(e)))
def test_output_dimensions_as_expressions(expr: Expr) -> None:
    calls = output_dimension(expr)
    for n in (1, 2, 3, 4, 10):
        assert Builder({(0, 0): n}).evaluate(calls) == ex.evaluate(expr, {"n": n}), n


def test_output_dimensions_that_tensorrt_cannot_express() -> None:
    for expr, why in (
        (Symbol("m"), "depends on something else"),
        (Binary("//", N, Const(0)), "divides by zero"),
        (Binary("%", N, Const(0)), "divides by zero"),
        (Binary("^", N, Const(1)), "operator"),
    ):
        with pytest.raises(UnsupportedError, match=why) as caught:
            output_dimension(expr)
        assert "output y" in str(caught.value)
    large = Binary("min", N, Const(2**31))
    assert "INT64_C(2147483648)" in output_dimension(large, V3)
    with pytest.raises(UnsupportedError, match="beyond 32 bits"):
        output_dimension(large, V2)


# Compilers


@pytest.fixture(scope="module")
def cuda_include() -> list[str]:
    return [word for folder in find_toolchain().include_dirs for word in ("-isystem", str(folder))]


def run(command: list[str], cwd: Path) -> str:
    result = subprocess.run(command, cwd=cwd, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stdout + result.stderr
    return result.stdout


@pytest.mark.parametrize("release", [V2, V3], ids=["V2", "V3"])
@pytest.mark.parametrize("make", plans.ALL)
def test_host_compiler(
    make: Callable[[], PluginPlan], release: Release, tmp_path: Path, cuda_include: list[str]
) -> None:
    plan = make()
    write(tmp_path, render_plugin(plan, release))
    write(tmp_path, render_library(plan.name, [plan.name], release))
    options = ["-std=c++14", "-O2", "-Wall", "-Wextra", "-Werror", "-DPLUGIN_AUTOGEN_TENSORRT_HEADERS=0", *cuda_include]
    run(["g++", *options, "-c", "-o", "plugin.o", "plugin.cpp"], tmp_path)
    run(["g++", *options, "-c", "-o", "library.o", "library.cpp"], tmp_path)


def test_embedded_constants(tmp_path: Path) -> None:
    files = render_plugin(plans.weighted_row_sum("tpat_w"), V3)
    write(tmp_path, files)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    (elsewhere / "main.cpp").write_text(
        '#include <cstdint>\n#include <cstdio>\nextern "C" unsigned char const tpat_w_constants[];\n'
        "int main() { if (reinterpret_cast<uintptr_t>(tpat_w_constants) % 256 != 0) { return 1; }\n"
        f"  return fwrite(tpat_w_constants, 1, {len(files['constants.bin'])}, stdout) == 0; }}\n"
    )
    run(["g++", "-o", "main", "-I", str(tmp_path), "main.cpp", str(tmp_path / "constants.S")], elsewhere)
    result = subprocess.run([elsewhere / "main"], capture_output=True, check=True)
    assert result.stdout == files["constants.bin"]
    # A stack that need not be executable: otherwise the loader refuses the library under SELinux.
    run(["g++", "-c", "-o", "constants.o", "-I", str(tmp_path), str(tmp_path / "constants.S")], elsewhere)
    assert ".note.GNU-stack" in run(["readelf", "-SW", "constants.o"], elsewhere)
    assert re.search(r"GLOBAL\s+HIDDEN.*tpat_w_constants", run(["readelf", "-sW", "constants.o"], elsewhere))


def test_two_plugins_of_one_name_do_not_clash(tmp_path: Path, cuda_include: list[str]) -> None:
    """Everything of two plugins with the same kernels links into one library, which exports the entry points only."""
    names = ["tpat_a", "tpat_b"]
    toolchain = find_toolchain()
    for name in names:
        write(tmp_path / name, render_plugin(plans.add(name, dtypes.FLOAT16), V3))
    write(tmp_path / "both", render_library("both", names, V3))
    host = ["-std=c++14", "-fPIC", "-O0", "-I", "both", "-DPLUGIN_AUTOGEN_TENSORRT_HEADERS=0", *cuda_include]
    objects = []
    for name in names:
        run(["g++", *host, "-c", "-o", f"{name}.plugin.o", f"{name}/plugin.cpp"], tmp_path)
        nvcc = [str(toolchain.nvcc), "-ccbin", str(toolchain.host_compiler), "-std=c++14", "-Xcompiler", "-fPIC"]
        nvcc += [f"-arch=sm_{toolchain.architectures[0]}", "-c", "-o", f"{name}.kernels.o", f"{name}/kernels.cu"]
        run(nvcc, tmp_path)
        objects += [f"{name}.plugin.o", f"{name}.kernels.o"]
    run(["g++", *host, "-c", "-o", "library.o", "both/library.cpp"], tmp_path)
    run(
        ["g++", "-shared", "-o", "both.so", *objects, "library.o", str(toolchain.cudart_static), "-ldl", "-lrt",
         "-lpthread", "-Wl,--version-script=both/exports.map", "-Wl,--no-undefined"],
        tmp_path,
    )  # fmt: skip
    exported = {line.split()[-1] for line in run(["nm", "-D", "--defined-only", "both.so"], tmp_path).splitlines()}
    assert exported == {"getCreators", "setLoggerFinder"}
    needed = run(["readelf", "-dW", "both.so"], tmp_path)
    assert "nvinfer" not in needed and "tvm" not in needed

    import ctypes

    library = ctypes.CDLL(str(tmp_path / "both.so"))
    library.getCreators.restype = ctypes.POINTER(ctypes.c_void_p)
    count = ctypes.c_int32()
    creators = library.getCreators(ctypes.byref(count))
    assert count.value == 2
    found = []
    for creator in creators[:2]:
        # Slot 6 of IPluginCreatorV3One is getPluginName.
        table = ctypes.cast(creator, ctypes.POINTER(ctypes.POINTER(ctypes.c_void_p)))[0]
        get_name = ctypes.CFUNCTYPE(ctypes.c_char_p, ctypes.c_void_p)(table[6] or 0)
        found.append(get_name(creator))
    assert found == [b"tpat_a", b"tpat_b"]


# Size expressions of kernels.cu, with the helpers of basics.h, against the plan's own arithmetic.
def test_size_expressions_in_cpp(tmp_path: Path, cuda_include: list[str]) -> None:
    values = (-7, -1, 0, 1, 2, 3, 4, 10)
    prints = "\n".join(
        f'  std::printf("%lld\\n", static_cast<long long>({ex.to_cpp(e)}));' for e in EXPRESSIONS if not divides_by_n(e)
    )
    (tmp_path / "main.cpp").write_text(
        f'#include <cstdio>\n#include "basics.h"\nvoid show(int64_t n) {{\n{prints}\n}}\n'
        "int main() {\n" + "".join(f"  show({v});\n" for v in values) + "}\n"
    )
    run(["g++", "-std=c++14", "-I", str(resources.templates()), *cuda_include, "-o", "main", "main.cpp"], tmp_path)
    expected = [ex.evaluate(e, {"n": v}) for v in values for e in EXPRESSIONS if not divides_by_n(e)]
    assert [int(line) for line in run([str(tmp_path / "main")], tmp_path).split()] == expected


def divides_by_n(expr: Expr) -> bool:
    return any(isinstance(e, Binary) and e.op in ("//", "%") and e.b == N for e in ex.walk(expr))


# The project for another machine


@pytest.mark.parametrize("release", RELEASES.values(), ids=RELEASES)
def test_library_files(release: Release) -> None:
    files = render_library("bundle", ["tpat_a", "tpat_b"], release)
    assert set(files) == {*PROJECT_FILES, *INTERFACE_HEADERS}
    entry_point = "getPluginCreators" if release is V2 else "getCreators"
    assert entry_point in text(files, "exports.map") and entry_point in text(files, "library.cpp")
    for name in ("tpat_a", "tpat_b"):
        assert f"{name}_creator()" in text(files, "library.cpp")
        assert f"../{name}" in text(files, "CMakeLists.txt")
        assert f"`{name}`" in text(files, "README.md")
    own = render_library("tpat_a", ["tpat_a"], release)
    assert "foreach(folder IN ITEMS .)" in text(own, "CMakeLists.txt")


def test_library_and_plugin_share_a_folder() -> None:
    assert not set(render_plugin(plans.weighted_row_sum("x"), V3)) & set(render_library("x", ["x"], V3))


def test_resources(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """In an installed wheel the folders lie inside the package."""
    checkout = resources.templates()
    package = tmp_path / "plugin_autogen"
    monkeypatch.setattr(resources, "_PACKAGE", package)
    with pytest.raises(PluginAutogenError, match="install the package again"):
        resources.templates()
    shutil.copytree(checkout, package / "_data" / "templates")
    assert resources.templates() == package / "_data" / "templates"


def test_reference_of_the_plans() -> None:
    """The references that other tests compare with are themselves what the plans' docstrings say."""
    x = np.arange(48, dtype=np.float32).reshape(3, 16)
    y, copied, sign = plans.scan_reference(x)
    assert y[1, 2] == x[1, 0] + x[1, 1] + x[1, 2]
    assert copied.shape == (6, 8) and sign.tolist() == [-1, -1]
    assert plans.weighted_row_sum_reference(np.zeros((8, 128), np.float32)).tolist() == [0.5] * 8
