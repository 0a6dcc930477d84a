"""Finds what turns generated source into a library: nvcc, a host C++ compiler, and TensorRT's headers or our own.

Every program is asked what it is (`--version`, `--dryrun`, `--list-gpu-code`) instead of being trusted for its place:
an `nvcc` on PATH may be a wrapper script, and the compiler of the wheels keeps its libraries elsewhere than a toolkit.
"""

from __future__ import annotations

import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from plugin_autogen.errors import ToolchainError, shorten
from plugin_autogen.releases import Interface, Release

NVCC_REMEDY = (
    'install the compiler from the package index (pip install "plugin_autogen[nvcc]"), or name a CUDA toolkit with '
    "--cuda_home DIR or CUDA_HOME"
)
HOST_REMEDY = "install g++ (apt-get install g++), or name the compiler with the environment variable CXX"

OLDEST_NVCC = (10, 2)
"""The generated source needs C++14 on the device side and runs on JetPack 4's CUDA 10.2."""

STANDARD_HOME = Path("/usr/local/cuda")
"""Where NVIDIA's installers put the toolkit, often without adding it to PATH."""

SYSTEM_INCLUDE_DIRS = (
    "/usr/include",
    f"/usr/include/{os.uname().machine}-linux-gnu",
    "/usr/local/include",
    "/usr/local/tensorrt/include",
)
"""Where TensorRT's packages and container images have their headers."""

_PROBE_SECONDS = 60


@dataclass(frozen=True)
class Toolchain:
    """A CUDA compiler with its host compiler, ready for use.

    Attributes:
        nvcc: the CUDA compiler.
        version: its release, (13, 0).
        build: the whole last lines of `nvcc --version`, for the keys of the compile cache.
        origin: where it was found, for messages: `--cuda_home`, `CUDA_HOME`, `PATH`, `wheels`, `/usr/local/cuda`.
        host_compiler: the C++ compiler that nvcc calls and that compiles the TensorRT side.
        host_version: first line of its `--version`.
        include_dirs: folders that hold cuda_runtime_api.h and what it includes, for the host compiler.
        cudart_static: libcudart_static.a.
        architectures: compute capabilities as numbers that this nvcc makes code for, ascending: (75, 80, …, 121).
        notes: what was passed over and why, one line each.
    """

    nvcc: Path
    version: tuple[int, int]
    build: str
    origin: str
    host_compiler: Path
    host_version: str
    include_dirs: tuple[Path, ...]
    cudart_static: Path
    architectures: tuple[int, ...]
    notes: tuple[str, ...] = ()

    @property
    def title(self) -> str:
        """`nvcc 13.0`, for messages."""
        return f"nvcc {self.version[0]}.{self.version[1]}"


@dataclass(frozen=True)
class TensorRtHeaders:
    """The headers that the plugin's TensorRT side is compiled against.

    Attributes:
        include_dir: folder of NvInfer.h, or the same as `interface_dir`.
        interface_dir: our own headers: the declarations, and the one that chooses between them and NVIDIA's.
        version: (major, minor, patch) of NVIDIA's headers; None for ours, whose layout holds for the release asked for.
        note: one line for the report, where headers that were found could not serve; empty otherwise.
    """

    include_dir: Path
    interface_dir: Path
    version: tuple[int, int, int] | None
    note: str = ""

    @property
    def official(self) -> bool:
        return self.version is not None

    @property
    def title(self) -> str:
        return f"TensorRT {'.'.join(map(str, self.version))}" if self.version else "plugin_autogen's interface headers"


def find_toolchain(cuda_home: str | os.PathLike[str] | None = None) -> Toolchain:
    """The compiler to use.

    Looks at `cuda_home`, then CUDA_HOME and CUDA_PATH, then PATH, then the wheels of the `nvcc` extra beside this
    package, then /usr/local/cuda. `cuda_home` must work; one that was only found may not, then the next one is tried.

    Raises:
        ToolchainError: no place has a working compiler; names what was wrong where, and the remedy.
    """
    if cuda_home is not None:
        nvcc = _nvcc_in(Path(cuda_home))
        if nvcc is None:
            raise ToolchainError(f"--cuda_home {shorten(cuda_home)}: no executable nvcc there, nor in its bin folder")
        return _toolchain(nvcc, "--cuda_home", ())
    notes: list[str] = []
    for origin, nvcc in _candidates(notes):
        try:
            return _toolchain(nvcc, origin, tuple(notes))
        except _MissingHostCompiler:
            raise
        except ToolchainError as error:
            notes.append(f"{origin}: {error}")
    cause = f" ({'; '.join(notes)})" if notes else ""
    raise ToolchainError(f"no CUDA compiler found{cause}: {NVCC_REMEDY}")


class _MissingHostCompiler(ToolchainError):
    """No other nvcc would help."""


def _candidates(notes: list[str]) -> Iterable[tuple[str, Path]]:
    """Places to look, in order; adds a note for each variable that points nowhere."""
    seen: set[Path] = set()

    def new(nvcc: Path) -> bool:
        real = nvcc.resolve()
        if real in seen:
            return False
        seen.add(real)
        return True

    for variable in ("CUDA_HOME", "CUDA_PATH"):
        value = os.environ.get(variable)
        if value:
            nvcc = _nvcc_in(Path(value))
            if nvcc is None:
                notes.append(f"{variable}={shorten(value)}: no nvcc there")
            elif new(nvcc):
                yield variable, nvcc
    on_path = shutil.which("nvcc")
    if on_path and new(Path(on_path)):
        yield "PATH", Path(on_path)
    for nvcc in _wheel_compilers():
        if new(nvcc):
            yield "wheels", nvcc
    standard = _nvcc_in(STANDARD_HOME)
    if standard and new(standard):
        yield str(STANDARD_HOME), standard


def _nvcc_in(home: Path) -> Path | None:
    for path in (home / "bin" / "nvcc", home / "nvcc"):
        if path.is_file() and os.access(path, os.X_OK):
            return path
    return None


def _wheel_compilers() -> list[Path]:
    """The nvcc of each `nvidia/cu*` folder beside this package, newest CUDA first (the cu12 wheels hold no driver)."""
    spec = importlib.util.find_spec("nvidia")
    roots = list(spec.submodule_search_locations or ()) if spec else []

    def release(path: Path) -> int:
        digits = path.parent.parent.name[2:]
        return int(digits) if digits.isdigit() else 0

    found = {nvcc for root in roots for nvcc in Path(root).glob("cu*/bin/nvcc") if os.access(nvcc, os.X_OK)}
    return sorted(found, key=release, reverse=True)


@lru_cache(maxsize=16)
def _probe(nvcc: Path, host: Path) -> tuple[tuple[int, int], str, Mapping[str, str], tuple[int, ...]]:
    """Version, build line, dryrun variables and architectures of a compiler: facts that do not change in one run."""
    text = _output([str(nvcc), "--version"])
    match = re.search(r"release (\d+)\.(\d+)", text)
    if match is None:
        raise ToolchainError(f"{nvcc} does not tell its release: is it NVIDIA's nvcc?")
    version = (int(match[1]), int(match[2]))
    if version < OLDEST_NVCC:
        needed = ".".join(map(str, OLDEST_NVCC))
        raise ToolchainError(f"{nvcc} is release {match[1]}.{match[2]}, older than the {needed} that is needed")
    # With --dryrun nvcc prints the variables of its profile, final folders included, and the commands, and runs none.
    arguments = [str(nvcc), "--dryrun", "-ccbin", str(host), "-x", "cu", "-c", os.devnull, "-o", os.devnull]
    variables = dict(re.findall(r"^#\$ (\w+)=(.*)$", _output(arguments, stderr=True), re.M))
    return version, " ".join(text.split("\n")[-3:]).strip(), variables, _known_architectures(nvcc)


def _known_architectures(nvcc: Path) -> tuple[int, ...]:
    try:
        text = _output([str(nvcc), "--list-gpu-code"])
    except ToolchainError:  # before CUDA 11 there is no such option; the help lists them
        text = _output([str(nvcc), "--help"])
    numbers = sorted({int(number) for number in re.findall(r"\bsm_(\d+)\b", text)})
    if not numbers:
        raise ToolchainError(f"{nvcc} lists no GPU architecture")
    return tuple(numbers)


def _toolchain(nvcc: Path, origin: str, notes: tuple[str, ...]) -> Toolchain:
    host = _host_compiler()
    version, build, variables, architectures = _probe(nvcc, host)
    top = Path(variables.get("TOP", str(nvcc.resolve().parent.parent)))
    quoted = r'"-[IL]([^"]+)"'
    include_dirs = [Path(p) for p in re.findall(quoted, variables.get("INCLUDES", ""))]
    library_dirs = [Path(p) for p in re.findall(quoted, variables.get("LIBRARIES", ""))]
    includes = _existing([*include_dirs, top / "include", Path("/usr/include")], "cuda_runtime_api.h")
    if not includes:
        raise ToolchainError(f"{nvcc} has no cuda_runtime_api.h beside it (from wheels: nvidia-cuda-runtime)")
    if not _existing(includes, "crt/host_defines.h"):
        raise ToolchainError(f"{nvcc} has no crt/host_defines.h beside it (from wheels: nvidia-cuda-crt)")
    cicc = variables.get("CICC_PATH")
    if cicc and not (Path(cicc) / "cicc").exists():
        raise ToolchainError(f"{nvcc} has no cicc beside it (from wheels: nvidia-nvvm)")
    # The wheels put libraries into lib, where nvcc, and so its profile, expects lib64.
    archives = _existing([*library_dirs, top / "lib64", top / "lib", *_system_library_dirs()], "libcudart_static.a")
    if not archives:
        raise ToolchainError(f"{nvcc} has no libcudart_static.a beside it (from wheels: nvidia-cuda-runtime)")
    return Toolchain(
        nvcc=nvcc,
        version=version,
        build=build,
        origin=origin,
        host_compiler=host,
        host_version=_host_version(host),
        include_dirs=tuple(path.resolve() for path in includes),
        cudart_static=(archives[0] / "libcudart_static.a").resolve(),
        architectures=architectures,
        notes=notes,
    )


def _existing(folders: Iterable[Path], file: str) -> list[Path]:
    """The first folder that holds the file, as a list of at most one."""
    return next(([folder] for folder in folders if (folder / file).is_file()), [])


def _system_library_dirs() -> list[Path]:
    machine = os.uname().machine
    return [Path(f"/usr/lib/{machine}-linux-gnu"), Path("/usr/lib64"), Path("/usr/lib")]


def _host_compiler() -> Path:
    """CXX, or g++, c++, clang++ on PATH. Raises `ToolchainError` when there is none."""
    named = os.environ.get("CXX")
    if named:
        found = shutil.which(named)
        if found is None:
            raise _MissingHostCompiler(f"CXX={shorten(named)} is no executable: {HOST_REMEDY}")
        return Path(found)
    for name in ("g++", "c++", "clang++"):
        found = shutil.which(name)
        if found:
            return Path(found)
    raise _MissingHostCompiler(f"no C++ compiler found: {HOST_REMEDY}")


def _output(arguments: list[str], stderr: bool = False) -> str:
    """What the program prints. Raises `ToolchainError` when it does not run or fails."""
    try:
        done = subprocess.run(
            arguments,
            capture_output=True,
            text=True,
            errors="replace",
            timeout=_PROBE_SECONDS,
            stdin=subprocess.DEVNULL,
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        raise ToolchainError(f"{shorten(arguments[0])} cannot be run: {shorten(error)}") from None
    if done.returncode != 0:
        raise ToolchainError(f"{shorten(arguments[0])} {arguments[1]} fails: {shorten(done.stderr or done.stdout)}")
    return done.stderr if stderr else done.stdout


@lru_cache(maxsize=16)
def _host_version(host: Path) -> str:
    return (_output([str(host), "--version"]).splitlines() or [""])[0]


def find_tensorrt_headers(release: Release, tensorrt_home: str | os.PathLike[str] | None = None) -> TensorRtHeaders:
    """The headers for this release: NVIDIA's where they are installed and fit, else ours.

    Looks at `tensorrt_home`, then TENSORRT_HOME, then the system's include folders. IPluginV3 has one layout from
    TensorRT 10.0 on, IPluginV2DynamicExt has one from 8.2 to 8.6 and others later, so that V2 for release "8" needs
    headers of 8.x.

    Raises:
        ToolchainError: `tensorrt_home` has no NvInfer.h, or its release does not fit.
    """
    if tensorrt_home is not None:
        folder = _headers_in(Path(tensorrt_home))
        if folder is None:
            raise ToolchainError(
                f"--tensorrt_home {shorten(tensorrt_home)}: no NvInfer.h there, nor in its include folder"
            )
        version = _header_version(folder)
        cause = _unfit(version, release)
        if cause and release.key == "rtx" and version is not None and version[0] < 8:
            # The SDK of TensorRT-RTX counts from 1. Its plugins are IPluginV3 in TensorRT 10's layout, which ours have.
            title = f"TensorRT-RTX {'.'.join(map(str, version))}"
            return _own_headers(f"--tensorrt_home holds {title}; plugin_autogen's own interface headers are used")
        if cause:
            raise ToolchainError(
                f"--tensorrt_home {shorten(tensorrt_home)}: {cause}; choose another --tensorrt or folder"
            )
        return TensorRtHeaders(folder, _interface_dir(), version)
    note = ""
    for origin, folder in _header_folders():
        version = _header_version(folder)
        cause = _unfit(version, release)
        if not cause:
            return TensorRtHeaders(folder, _interface_dir(), version)
        note = note or f"{origin}: {cause}; plugin_autogen's own interface headers are used"
    return _own_headers(note)


def _own_headers(note: str) -> TensorRtHeaders:
    folder = _interface_dir()
    return TensorRtHeaders(folder, folder, None, note)


def _interface_dir() -> Path:
    from plugin_autogen import resources

    return resources.interface_include()


def _header_folders() -> Iterable[tuple[str, Path]]:
    home = os.environ.get("TENSORRT_HOME")
    if home:
        folder = _headers_in(Path(home))
        if folder is not None:
            yield f"TENSORRT_HOME={shorten(home)}", folder
    for path in SYSTEM_INCLUDE_DIRS:
        if (Path(path) / "NvInfer.h").is_file():
            yield path, Path(path)


def _headers_in(home: Path) -> Path | None:
    machine = os.uname().machine
    for folder in (home / "include", home / "include" / f"{machine}-linux-gnu", home):
        if (folder / "NvInfer.h").is_file():
            return folder.resolve()
    return None


def _header_version(folder: Path) -> tuple[int, int, int] | None:
    """(major, minor, patch) out of NvInferVersion.h; None when it does not tell.

    From 10.13 on NV_TENSORRT_MAJOR names another macro, TRT_MAJOR_ENTERPRISE.
    """
    try:
        text = (folder / "NvInferVersion.h").read_text(errors="replace")
    except OSError:
        return None
    macros: dict[str, str] = dict(re.findall(r"^\s*#define\s+(\w+)\s+(\w+)", text, re.M))

    def number(name: str) -> int:
        value = macros.get(name, "")
        value = macros.get(value, value)
        return int(value) if value.isdigit() else -1

    major, minor, patch = (number(f"NV_TENSORRT_{part}") for part in ("MAJOR", "MINOR", "PATCH"))
    return None if major < 0 else (major, max(minor, 0), max(patch, 0))


def _unfit(version: tuple[int, int, int] | None, release: Release) -> str:
    """Why headers of this version cannot serve the release; empty when they can."""
    if version is None:
        return "its NvInferVersion.h tells no version"
    text = ".".join(map(str, version))
    if release.interface is Interface.V3 and version[0] < 10:
        return f"its headers are TensorRT {text}, and IPluginV3 ({release.title}) needs 10.0 or newer"
    if release.interface is Interface.V2 and not (8, 2) <= version[:2] < (9, 0):
        return f"its headers are TensorRT {text}, and IPluginV2DynamicExt for {release.title} needs those of 8.2 to 8.6"
    return ""
