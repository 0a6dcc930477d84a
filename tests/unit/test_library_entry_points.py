"""library.cpp against stand-ins for the TensorRT releases that differ: registration at load, two kinds of logger."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from plugin_autogen.codegen.render import render_library
from plugin_autogen.releases import RELEASES, Release

# As in NVIDIA's headers: up to TensorRT 10 the logger's only functions are `log` and the destructors, in 11 and
# TensorRT-RTX 1.7 the four slots of IVersionedInterface come first. The destructors of the older ones come last.
STAND_IN = r"""
#include <cstdint>
#include <cstdio>
#include <cstring>
static char message[256];
static int32_t registered;
#if VERSIONED
struct Versioned {
  virtual int32_t getAPILanguage() const noexcept { std::strcpy(message, "getAPILanguage"); return 0; }
  virtual void* getInterfaceInfo() const noexcept { std::strcpy(message, "getInterfaceInfo"); return nullptr; }
  virtual ~Versioned() { std::strcpy(message, "destructor"); }
};
struct Logger : Versioned {
#else
struct Logger {
#endif
  virtual void log(int32_t severity, char const* text) noexcept {
    std::snprintf(message, sizeof(message), "%d %s", severity, text);
  }
  virtual ~Logger() {}
};
#if VERSIONED
struct Finder : Versioned {
#else
struct Finder {
#endif
  virtual Logger* findLogger() { static Logger logger; return &logger; }
  virtual ~Finder() {}
};
struct Registry {
  virtual bool registerCreator(void* creator, char const* name) noexcept {
    registered += reinterpret_cast<intptr_t>(creator) == 64 && std::strcmp(name, "") == 0;
    return true;
  }
};
extern "C" {
int32_t getInferLibVersion() { return VERSION; }
void* getPluginRegistry() { static Registry registry; return &registry; }
void* finder() { static Finder instance; return &instance; }
char const* lastMessage() { return message; }
int32_t registrations() { return registered; }
}
"""

PLUGIN = """
#include <cstdint>
extern "C" __attribute__((visibility("hidden"))) void plugin_autogen_log(int32_t, char const*) noexcept;
extern "C" __attribute__((visibility("hidden"))) void* x_creator() noexcept { return reinterpret_cast<void*>(64); }
extern "C" __attribute__((visibility("default"))) void emitMessage() { plugin_autogen_log(1, "x: a message"); }
"""

DRIVER = """
import ctypes, json, sys
tensorrt, library, scope = sys.argv[1:]
nvinfer = ctypes.CDLL(tensorrt, mode=getattr(ctypes, scope)) if tensorrt else None
plugins = ctypes.CDLL(library)
count = ctypes.c_int32()
entry = getattr(plugins, "getCreators" if hasattr(plugins, "getCreators") else "getPluginCreators")
entry.restype = ctypes.POINTER(ctypes.c_void_p)
creators = entry(ctypes.byref(count))
assert count.value == 1 and creators[0] == 64
plugins.emitMessage()
result = {"registered": 0, "message": ""}
if nvinfer:
    nvinfer.finder.restype, nvinfer.lastMessage.restype = ctypes.c_void_p, ctypes.c_char_p
    plugins.setLoggerFinder(ctypes.c_void_p(nvinfer.finder()))
    plugins.emitMessage()
    result = {"registered": nvinfer.registrations(), "message": nvinfer.lastMessage().decode()}
    plugins.setLoggerFinder(None)
    plugins.emitMessage()
print(json.dumps(result))
"""


def compile_shared(folder: Path, name: str, source: str, *options: str) -> Path:
    (folder / f"{name}.cpp").write_text(source)
    command = ["g++", "-std=c++14", "-O2", "-fPIC", "-shared", "-o", str(folder / name), str(folder / f"{name}.cpp")]
    subprocess.run([*command, *options], check=True)
    return folder / name


def library(folder: Path, release: Release) -> Path:
    for name, content in render_library("x", ["x"], release).items():
        (folder / name).write_bytes(content)
    (folder / "cuda_runtime_api.h").write_text("typedef struct CUstream_st* cudaStream_t;\n")
    options = ["-fvisibility=hidden", "-I", str(folder), "-DPLUGIN_AUTOGEN_TENSORRT_HEADERS=0"]
    return compile_shared(folder, "x.so", PLUGIN, str(folder / "library.cpp"), *options, "-ldl")


def drive(tensorrt: Path | None, plugins: Path, scope: str = "RTLD_LOCAL") -> tuple[dict[str, object], str]:
    command = [sys.executable, "-c", DRIVER, str(tensorrt or ""), str(plugins), scope]
    result = subprocess.run(command, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr
    data: dict[str, object] = json.loads(result.stdout)
    return data, result.stderr


@pytest.mark.parametrize("scope", ["RTLD_LOCAL", "RTLD_GLOBAL"])
@pytest.mark.parametrize(
    ("key", "version", "registered"),
    [
        ("8", 8203, 1),
        ("8", 8503, 1),
        ("8", 8600, 0),
        ("8", 8601, 0),
        ("8", 101300, 0),
        ("10", 100000, 0),
        ("10", 101600, 0),
        ("11", 110100, 0),
        ("rtx", 10701, 0),
    ],
)
def test_releases(key: str, version: int, registered: int, scope: str, tmp_path: Path) -> None:
    versioned = version >= 110000 or version == 10701
    options = [f"-DVERSION={version}", f"-DVERSIONED={int(versioned)}", "-Wl,-soname,libnvinfer.so.8"]
    tensorrt = compile_shared(tmp_path, "libnvinfer.so.8", STAND_IN, *options)
    result, stderr = drive(tensorrt, library(tmp_path, RELEASES[key]), scope)
    assert result == {"registered": registered, "message": "1 x: a message"}
    assert stderr == "x: a message\n" * 2, "to stderr before there is a logger, and after it is gone"


@pytest.mark.parametrize("key", ["8", "10"])
def test_without_tensorrt(key: str, tmp_path: Path) -> None:
    _, stderr = drive(None, library(tmp_path, RELEASES[key]))
    assert stderr == "x: a message\n"


def test_unknown_release_logs_to_stderr(tmp_path: Path) -> None:
    tensorrt = compile_shared(tmp_path, "libnvinfer.so.8", STAND_IN, "-DVERSION=7203", "-DVERSIONED=0")
    result, stderr = drive(tensorrt, library(tmp_path, RELEASES["8"]))
    assert result == {"registered": 0, "message": ""}
    assert stderr == "x: a message\n" * 3
