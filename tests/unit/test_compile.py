"""Source folders become libraries that load, show TensorRT's entry points alone, and appear whole or not at all."""

from __future__ import annotations

import ctypes
import re
import subprocess
from pathlib import Path

import pytest

from plugin_autogen.build.architectures import Architectures
from plugin_autogen.build.cache import ObjectCache, cache_dir
from plugin_autogen.build.compile import LibrarySource, compile_library, compile_many
from plugin_autogen.build.toolchain import TensorRtHeaders, Toolchain, find_tensorrt_headers, find_toolchain
from plugin_autogen.errors import OutputError, ToolchainError
from plugin_autogen.releases import release

ONE_GPU = Architectures((80,))

KERNELS = """
#include <cuda_runtime.h>
#include "factor.h"
extern "C" __global__ void scale_NAME(float* y, float const* x, int n)
{
    int const i = blockIdx.x * blockDim.x + threadIdx.x;
    if (i < n) { y[i] = kFactor * x[i]; }
}
int launch_NAME(float* y, float const* x, int n)
{
    int unused;
    void* arguments[] = {&y, &x, &n};
    (void) cudaLaunchKernel(scale_NAME, dim3(1), dim3(32), arguments, 0, nullptr);
    return cudaGetDeviceCount(&unused) == cudaSuccess ? kFactor : -kFactor;
}
"""
# std::map leaves weak symbols of default visibility behind: they must not be seen from outside.
PLUGIN = """
#include <map>
#include <string>
int launch_NAME(float* y, float const* x, int n);
CONSTANT
int answer_NAME()
{
    std::map<std::string, int> values;
    values["NAME"] = launch_NAME(nullptr, nullptr, 0);
    return values.at("NAME") < 0 ? -values.at("NAME") : values.at("NAME");
}
int constant_NAME() { return CONSTANT_VALUE; }
"""
LIBRARY = """
#define ENTRY extern "C" __attribute__((visibility("default")))
DECLARATIONS
ENTRY int getCreators() { return SUM; }
ENTRY int setLoggerFinder() { return CONSTANTS; }
ENTRY int helperThatIsNobodysBusiness() { return 0; }
"""
CONSTANTS_S = """
    .section .rodata.c_NAME,"a",%progbits
    .global c_NAME
    .hidden c_NAME
c_NAME:
    .incbin "constants.bin"
    .section .note.GNU-stack,"",%progbits
"""


@pytest.fixture(autouse=True)
def _cache(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PLUGIN_AUTOGEN_CACHE", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def toolchain() -> Toolchain:
    return find_toolchain()


@pytest.fixture(scope="module")
def headers() -> TensorRtHeaders:
    return find_tensorrt_headers(release("10"))


def _plugin(folder: Path, name: str, factor: int, constants: bytes | None = None) -> Path:
    folder.mkdir(parents=True)
    (folder / "kernels.cu").write_text(KERNELS.replace("NAME", name))
    (folder / "factor.h").write_text(f"static int const kFactor = {factor};\n")
    text = PLUGIN.replace("CONSTANT_VALUE", f"c_{name}[1]" if constants else "0")
    text = text.replace("CONSTANT", f'extern "C" unsigned char const c_{name}[];' if constants else "")
    (folder / "plugin.cpp").write_text(text.replace("NAME", name))
    if constants:
        (folder / "constants.S").write_text(CONSTANTS_S.replace("NAME", name))
        (folder / "constants.bin").write_bytes(constants)
    return folder


def _library(folder: Path, name: str, plugins: dict[str, Path]) -> LibrarySource:
    folder.mkdir(parents=True, exist_ok=True)
    declarations = "".join(f"int answer_{plugin}(); int constant_{plugin}();" for plugin in plugins)
    text = LIBRARY.replace("DECLARATIONS", declarations)
    text = text.replace("SUM", " + ".join(f"answer_{plugin}()" for plugin in plugins))
    text = text.replace("CONSTANTS", " + ".join(f"constant_{plugin}()" for plugin in plugins))
    (folder / "library.cpp").write_text(text)
    return LibrarySource(name, folder, tuple(plugins.values()))


def _single(root: Path, name: str, factor: int = 3, constants: bytes | None = None) -> LibrarySource:
    folder = _plugin(root / name, name, factor, constants)
    return _library(folder, name, {name: folder})


def _exported(path: Path) -> list[str]:
    text = subprocess.run(["nm", "-D", "--defined-only", path], capture_output=True, text=True, check=True).stdout
    return sorted(line.split()[-1].split("@")[0] for line in text.splitlines())


def _needed(path: Path) -> list[str]:
    text = subprocess.run(["readelf", "-d", path], capture_output=True, text=True, check=True).stdout
    return re.findall(r"\(NEEDED\).*\[(.+)\]", text) + re.findall(r"\(SONAME\).*\[(.+)\]", text)


def test_library_of_one_plugin(tmp_path: Path, toolchain: Toolchain, headers: TensorRtHeaders) -> None:
    source = _single(tmp_path / "src", "solo", 3, constants=b"\x05\x07")
    path = compile_library(source, tmp_path / "lib", toolchain, headers, ONE_GPU)
    assert path == tmp_path / "lib" / "solo.so"
    library = ctypes.CDLL(str(path))
    assert library.getCreators() == 3
    assert library.setLoggerFinder() == 7
    assert _exported(path) == ["getCreators", "setLoggerFinder"]
    assert not [name for name in _needed(path) if re.search(r"cuda|nvinfer|tvm", name)]
    assert _needed(path)[-1] == "solo.so"
    assert path.stat().st_mode & 0o111
    assert [p.name for p in path.parent.iterdir()] == ["solo.so"]


def test_library_of_several_plugins_and_several_libraries(
    tmp_path: Path, toolchain: Toolchain, headers: TensorRtHeaders
) -> None:
    folders = {name: _plugin(tmp_path / "src" / name, name, factor) for name, factor in (("a", 2), ("b", 5))}
    both = _library(tmp_path / "src" / "both", "both", folders)
    solo = _single(tmp_path / "src", "c", 11)
    built = compile_many([both, solo], tmp_path / "lib", toolchain, headers, ONE_GPU, jobs=2)
    assert [(b.name, b.units, b.cached, b.path.name) for b in built] == [("both", 5, 0, "both.so"), ("c", 3, 0, "c.so")]
    assert [ctypes.CDLL(str(b.path)).getCreators() for b in built] == [7, 11]
    assert [b.bytes for b in built] == [b.path.stat().st_size for b in built]


def test_all_default_architectures_are_in_the_library(
    tmp_path: Path, toolchain: Toolchain, headers: TensorRtHeaders
) -> None:
    from plugin_autogen.build.architectures import resolve

    wanted = resolve([], toolchain)
    source = _single(tmp_path / "src", "wide")
    path = compile_library(source, tmp_path / "lib", toolchain, headers, wanted)
    assert _images(path.read_bytes()) == {("elf", n) for n in wanted.real} | {("ptx", n) for n in wanted.virtual}


def _images(library: bytes) -> set[tuple[str, int]]:
    """(kind, compute capability) of each entry of the fat binaries in a library."""
    found = set()
    for match in re.finditer(re.escape(bytes.fromhex("50ed55ba0100")), library):
        header = int.from_bytes(library[match.start() + 6 : match.start() + 8], "little")
        end = match.start() + header + int.from_bytes(library[match.start() + 8 : match.start() + 16], "little")
        at = match.start() + header
        while at < end:
            kind = int.from_bytes(library[at : at + 2], "little")
            size = int.from_bytes(library[at + 4 : at + 8], "little")
            payload = int.from_bytes(library[at + 8 : at + 16], "little")
            number = int.from_bytes(library[at + 28 : at + 32], "little")
            found.add(({1: "ptx", 2: "elf"}[kind], number))
            at += size + payload
    return found


def test_folders_with_awkward_names(tmp_path: Path, toolchain: Toolchain, headers: TensorRtHeaders) -> None:
    root = tmp_path / 'it\'s a "test" $(touch pwned);ü' / "src"
    source = _single(root, "odd", constants=b"\x05\x07")
    path = compile_library(source, root.parent / "lib", toolchain, headers, ONE_GPU)
    assert ctypes.CDLL(str(path)).setLoggerFinder() == 7
    assert not list(tmp_path.rglob("pwned"))


@pytest.mark.parametrize(
    ("file", "text", "words"),
    [
        (
            "kernels.cu",
            "__global__ void k() { undeclared_thing = 1; }",
            ("nvcc failed on kernels.cu", "undeclared_thing"),
        ),
        ("plugin.cpp", "#include <no_such_header.h>", ("failed on plugin.cpp", "no_such_header.h")),
        ("plugin.cpp", "int answer_bad();", ("failed on link", "undefined reference")),
    ],
)
def test_failure_leaves_nothing_and_names_the_first_error(
    file: str, text: str, words: tuple[str, ...], tmp_path: Path, toolchain: Toolchain, headers: TensorRtHeaders
) -> None:
    good, bad = _single(tmp_path / "src", "good"), _single(tmp_path / "src", "bad")
    (bad.folder / file).write_text(text)
    before = b"of an earlier run"
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib" / "good.so").write_bytes(before)
    with pytest.raises(ToolchainError) as caught:
        compile_many([good, bad], tmp_path / "lib", toolchain, headers, ONE_GPU)
    message = str(caught.value)
    assert "\n" not in message and message.startswith("bad: ")
    for word in words:
        assert word in message
    log = re.search(r"\(whole log: (.+)\)$", message)
    assert log
    assert words[-1] in Path(log[1]).read_text()
    Path(log[1]).unlink()
    assert [p.name for p in (tmp_path / "lib").iterdir()] == ["good.so"]
    assert (tmp_path / "lib" / "good.so").read_bytes() == before


def test_missing_source(tmp_path: Path, toolchain: Toolchain, headers: TensorRtHeaders) -> None:
    source = _single(tmp_path / "src", "gone")
    (source.folder / "kernels.cu").unlink()
    with pytest.raises(ToolchainError, match=r"kernels\.cu is missing"):
        compile_library(source, tmp_path / "lib", toolchain, headers, ONE_GPU)


def test_library_name_that_is_a_path(tmp_path: Path, toolchain: Toolchain, headers: TensorRtHeaders) -> None:
    source = LibrarySource("../x", tmp_path, ())
    with pytest.raises(ToolchainError, match="is no name for a library"):
        compile_library(source, tmp_path / "lib", toolchain, headers, ONE_GPU)
    assert not (tmp_path / "lib").exists()


def test_temporary_folder_with_an_awkward_name(
    tmp_path: Path, toolchain: Toolchain, headers: TensorRtHeaders, monkeypatch: pytest.MonkeyPatch
) -> None:
    odd = tmp_path / "$(touch pwned)"
    odd.mkdir()
    monkeypatch.setattr("tempfile.tempdir", str(odd))
    path = compile_library(_single(tmp_path / "src", "odd"), tmp_path / "lib", toolchain, headers, ONE_GPU)
    assert ctypes.CDLL(str(path)).getCreators() == 3
    assert not list(odd.iterdir())


def test_output_folder_that_is_a_file(tmp_path: Path, toolchain: Toolchain, headers: TensorRtHeaders) -> None:
    (tmp_path / "lib").write_text("a file")
    with pytest.raises(OutputError, match=r"^cannot write to .*lib"):
        compile_library(_single(tmp_path / "src", "x"), tmp_path / "lib", toolchain, headers, ONE_GPU)


def _cached(
    source: LibrarySource, tmp_path: Path, toolchain: Toolchain, headers: TensorRtHeaders, gpu: int = 80
) -> int:
    return compile_many([source], tmp_path / "lib", toolchain, headers, Architectures((gpu,)))[0].cached


def test_cache_serves_what_did_not_change(tmp_path: Path, toolchain: Toolchain, headers: TensorRtHeaders) -> None:
    source = _single(tmp_path / "src", "kept")
    assert _cached(source, tmp_path, toolchain, headers) == 0
    first = (tmp_path / "lib" / "kept.so").read_bytes()
    assert _cached(source, tmp_path, toolchain, headers) == 3
    assert (tmp_path / "lib" / "kept.so").read_bytes() == first
    # The same source elsewhere gives the same objects.
    moved = tmp_path / "elsewhere"
    source.folder.rename(moved)
    source = LibrarySource("kept", moved, (moved,))
    assert _cached(source, tmp_path, toolchain, headers) == 3
    # Other GPUs: the kernels again. Another header: whatever could include it.
    assert _cached(source, tmp_path, toolchain, headers, gpu=90) == 2
    (source.folder / "factor.h").write_text("static int const kFactor = 4;\n")
    assert _cached(source, tmp_path, toolchain, headers) == 0
    assert ctypes.CDLL(str(tmp_path / "lib" / "kept.so")).getCreators() == 4


def test_damaged_cache_is_not_used(tmp_path: Path, toolchain: Toolchain, headers: TensorRtHeaders) -> None:
    source = _single(tmp_path / "src", "kept")
    _cached(source, tmp_path, toolchain, headers)
    for entry in (tmp_path / "cache" / "objects").iterdir():
        entry.write_bytes(entry.read_bytes()[:-1])
    assert _cached(source, tmp_path, toolchain, headers) == 0
    assert ctypes.CDLL(str(tmp_path / "lib" / "kept.so")).getCreators() == 3


def test_cache_can_be_turned_off(
    tmp_path: Path, toolchain: Toolchain, headers: TensorRtHeaders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PLUGIN_AUTOGEN_CACHE", "off")
    assert cache_dir() is None
    source = _single(tmp_path / "src", "kept")
    assert _cached(source, tmp_path, toolchain, headers) == 0
    assert _cached(source, tmp_path, toolchain, headers) == 0
    assert not (tmp_path / "cache").exists()


def test_unwritable_cache_is_no_error(tmp_path: Path, toolchain: Toolchain, headers: TensorRtHeaders) -> None:
    (tmp_path / "cache").write_text("a file where the folder should be")
    assert _cached(_single(tmp_path / "src", "kept"), tmp_path, toolchain, headers) == 0


def test_cache_forgets_what_was_unused_longest(tmp_path: Path) -> None:
    import os

    cache = ObjectCache(tmp_path / "objects", limit=250)
    data = tmp_path / "data"
    data.write_bytes(b"x" * 68)  # and 32 of digest
    for number, key in enumerate("abc"):
        cache.store(key, data)
        os.utime(tmp_path / "objects" / key, (number, number))
    assert cache.load("a", tmp_path / "again")
    assert (tmp_path / "again").read_bytes() == data.read_bytes()
    cache.trim()
    assert sorted(p.name for p in (tmp_path / "objects").iterdir()) == ["a", "c"]


def test_cache_keys_tell_parts_apart() -> None:
    keys = [ObjectCache.key(parts) for parts in (["ab", "c"], ["a", "bc"], ["abc"], ["abc", ""], [b"ab", "c"])]
    assert len(set(keys)) == 4
    assert keys[0] == keys[4]
