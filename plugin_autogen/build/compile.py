"""From source folders to shared libraries that TensorRT loads.

Each plugin folder holds `kernels.cu` (nvcc, once for all GPUs), `plugin.cpp` (the host compiler), and `constants.S`
where the plugin has constants; the library's folder holds `library.cpp`. They are linked with the static CUDA runtime
and without TensorRT, whose functions a plugin receives through virtual calls.

Where the time of one small plugin goes (12 GPUs, nvcc 13.0, two cores, seconds of wall clock):

    every GPU with a front end of its own, one after another     3.2     --threads 2     1.7
    one front end a generation (architectures.gencode)           1.5     --threads 2     0.8

`cicc` and the preprocessor, which read CUDA's headers again for each front end, take 80 % of that, `ptxas` 12 %.
`--split-compile`, `--compress-mode` and the host's optimization level change nothing that can be measured.
`plugin.cpp` and `library.cpp` compile meanwhile. Several plugins fill the cores by themselves, so nvcc gets more than
one thread only when there are fewer kernel files than cores.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from plugin_autogen.build.architectures import Architectures
from plugin_autogen.build.cache import ObjectCache
from plugin_autogen.build.toolchain import TensorRtHeaders, Toolchain
from plugin_autogen.errors import OutputError, ToolchainError, shorten

EXPORTS = ("getCreators", "getPluginCreators", "setLoggerFinder")
"""The functions that TensorRT looks up in a plugin library; nothing else is visible."""

STANDARD = "c++14"
"""What CUDA 10.2 and gcc 7 of the oldest Jetson boards know; the generated source keeps to it."""

_T = TypeVar("_T")

_HOST_FLAGS = ("-O2", "-fPIC", "-fvisibility=hidden", "-fvisibility-inlines-hidden", "-ffunction-sections")
_HEADER_SUFFIXES = (".h", ".hpp", ".cuh")


@dataclass(frozen=True)
class LibrarySource:
    """The source of one shared library.

    Attributes:
        name: of the library, a C identifier; `<name>.so` is made of it.
        folder: holds `library.cpp`.
        plugin_folders: each holds `kernels.cu`, `plugin.cpp` and perhaps `constants.S`; may contain `folder` itself.
    """

    name: str
    folder: Path
    plugin_folders: tuple[Path, ...]


@dataclass(frozen=True)
class CompiledLibrary:
    """A library in its place.

    Attributes:
        name: of its source.
        path: the `.so`.
        bytes: its size.
        seconds: compiler time of all its files and the link, as if run one after another.
        cached: how many of its `units` came from the compile cache.
        units: how many files it was made of.
    """

    name: str
    path: Path
    bytes: int
    seconds: float
    cached: int
    units: int


@dataclass(frozen=True)
class _Unit:
    """One file to compile: in `folder`, to `output`."""

    library: str
    folder: Path
    file: str
    output: Path
    command: tuple[str, ...]
    cacheable: bool


@dataclass(frozen=True)
class _Compiled:
    seconds: float
    cached: bool


def compile_library(
    source: LibrarySource,
    lib_dir: Path,
    toolchain: Toolchain,
    headers: TensorRtHeaders,
    architectures: Architectures,
    jobs: int | None = None,
) -> Path:
    """Compiles one library to `<lib_dir>/<name>.so` and returns that path. See `compile_many`."""
    return compile_many([source], lib_dir, toolchain, headers, architectures, jobs)[0].path


def compile_many(
    sources: Sequence[LibrarySource],
    lib_dir: Path,
    toolchain: Toolchain,
    headers: TensorRtHeaders,
    architectures: Architectures,
    jobs: int | None = None,
) -> list[CompiledLibrary]:
    """Compiles the libraries in parallel to `<lib_dir>/<name>.so`.

    All of them appear, or none: they are moved into place when the last one is linked.

    Args:
        sources: what to compile; names differ.
        lib_dir: made when missing.
        jobs: how many compilers run at once; the number of CPUs by default.

    Returns:
        One entry for each source, in order.

    Raises:
        ToolchainError: a compiler failed: names the plugin, the file, the first error and where the whole log lies.
        OutputError: `lib_dir` cannot be written.
    """
    for source in sources:
        if not re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", source.name):
            raise ToolchainError(f"{shorten(source.name)!r} is no name for a library: use letters, digits and _ alone")
    jobs = max(1, jobs or os.cpu_count() or 1)
    staging = _staging_in(lib_dir)
    try:
        with tempfile.TemporaryDirectory(prefix="plugin_autogen-", dir=shell_safe_folder()) as scratch:
            tools = _Tools(toolchain, headers, architectures, Path(scratch))
            return _compile(sources, lib_dir, staging, tools, jobs)
    except OSError as error:
        raise OutputError(f"cannot compile: {shorten(error)}") from None
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _staging_in(lib_dir: Path) -> Path:
    """A folder on the file system of the result, from where a finished library can be renamed into place."""
    try:
        lib_dir.mkdir(parents=True, exist_ok=True)
        return Path(tempfile.mkdtemp(prefix=".building-", dir=lib_dir))
    except OSError as error:
        raise OutputError(
            f"cannot write to {shorten(lib_dir)}: {error.strerror}; choose another --plugin_dir"
        ) from None


def shell_safe_folder() -> str:
    """A folder for objects whose path a shell leaves as it is.

    nvcc hands its command lines, full paths of source, object and temporary files included, to a shell, between double
    quotes: `$(…)` in the name of a user's folder would be run.
    """
    for folder in (tempfile.gettempdir(), "/tmp", "/var/tmp"):
        if re.fullmatch(r"[A-Za-z0-9_/.+-]+", folder) and os.access(folder, os.W_OK | os.X_OK):
            return folder
    raise OutputError(
        "no folder for temporary files whose name has letters, digits and _ . + - alone: set TMPDIR to one"
    )


def _compile(
    sources: Sequence[LibrarySource],
    lib_dir: Path,
    staging: Path,
    tools: _Tools,
    jobs: int,
) -> list[CompiledLibrary]:
    kernel_files = sum(len(source.plugin_folders) for source in sources)
    threads = max(1, jobs // max(1, kernel_files))
    units = {source.name: tools.units(source, threads) for source in sources}
    # Kernels first: they take longest, and what is short fills the end.
    order = sorted((u for group in units.values() for u in group), key=lambda u: not u.file.endswith(".cu"))
    with ThreadPoolExecutor(max_workers=jobs, thread_name_prefix="compile") as pool:
        futures: dict[Future[_Compiled], _Unit] = {pool.submit(tools.compile, unit): unit for unit in order}
        results = {futures[future]: result for future, result in _gather(list(futures)).items()}
        links = {pool.submit(tools.link, s, units[s.name], staging / f"{s.name}.so"): s.name for s in sources}
        link_seconds = {links[future]: seconds for future, seconds in _gather(list(links)).items()}
    tools.cache.trim()
    done = []
    for source in sources:
        built, path = staging / f"{source.name}.so", lib_dir / f"{source.name}.so"
        size = built.stat().st_size
        try:
            os.replace(built, path)
        except OSError as error:
            raise OutputError(f"cannot write {shorten(path)}: {error.strerror}") from None
        compiled = [results[unit] for unit in units[source.name]]
        done.append(
            CompiledLibrary(
                name=source.name,
                path=path,
                bytes=size,
                seconds=sum(c.seconds for c in compiled) + link_seconds[source.name],
                cached=sum(c.cached for c in compiled),
                units=len(compiled),
            )
        )
    return done


def _gather(futures: Sequence[Future[_T]]) -> dict[Future[_T], _T]:
    """All results; the first failure, those not yet begun being cancelled."""
    wait(futures, return_when=FIRST_EXCEPTION)
    for future in futures:
        if future.done() and not future.cancelled() and future.exception() is not None:
            for other in futures:
                other.cancel()
            break
    # In order, so that the error of two failing plugins does not depend on which compiler was faster.
    return {future: future.result() for future in futures if not future.cancelled()}


class _Tools:
    """The command lines, and what runs them."""

    def __init__(
        self,
        toolchain: Toolchain,
        headers: TensorRtHeaders,
        architectures: Architectures,
        scratch: Path,
    ) -> None:
        self._toolchain = toolchain
        self._architectures = architectures
        self._scratch = scratch
        self.cache = ObjectCache.from_environment()
        # -I and not -isystem: the latter breaks the C++ library where a header lies in /usr/include.
        folders = dict.fromkeys([headers.include_dir, headers.interface_dir, *toolchain.include_dirs])
        self._includes = [option for folder in folders for option in ("-I", str(folder))]
        self._defines = [f"-DPLUGIN_AUTOGEN_TENSORRT_HEADERS={int(headers.official)}"]
        self._header_key = _headers_digest([headers.include_dir, headers.interface_dir])
        self._exports = scratch / "exports.map"
        self._exports.write_text(f"{{ global: {'; '.join(EXPORTS)}; local: *; }};\n")
        # nvcc leaves its temporary files where it is killed; here they go with the scratch folder.
        self._environment = {**os.environ, "LC_ALL": "C", "TMPDIR": str(scratch)}
        self._variables = [os.environ.get(v, "") for v in ("NVCC_PREPEND_FLAGS", "NVCC_APPEND_FLAGS", "CPATH")]

    def units(self, source: LibrarySource, nvcc_threads: int) -> list[_Unit]:
        """All files of the library, each with its command."""
        units: list[_Unit] = []

        def add(folder: Path, file: str, command: list[str], cacheable: bool = True) -> None:
            if not (folder / file).is_file():
                raise ToolchainError(f"library {shorten(source.name)}: {shorten(folder / file)} is missing")
            output = self._scratch / f"{source.name}.{len(units)}.o"
            units.append(_Unit(source.name, folder, file, output, tuple(command), cacheable))

        for folder in source.plugin_folders:
            for kernels in sorted(path.name for path in folder.glob("*.cu")) or ["kernels.cu"]:
                add(folder, kernels, self._nvcc(folder / kernels, nvcc_threads))
            add(folder, "plugin.cpp", self._host())
            if (folder / "constants.S").is_file():
                # The assembler copies the data: a cache would only keep it twice.
                add(folder, "constants.S", [str(self._toolchain.host_compiler), "-c"], cacheable=False)
        add(source.folder, "library.cpp", self._host())
        return units

    def _nvcc(self, file: Path, threads: int) -> list[str]:
        if not file.is_file():
            return []  # `units` says so
        try:
            texts = [path.read_text(errors="replace") for path in (file, *_headers_of(file.parent))]
        except OSError as error:
            raise ToolchainError(f"cannot read {shorten(error.filename)}: {error.strerror}") from None
        text = "\n".join(texts)
        # CUB and libcu++ of CUDA 13 ask for C++17; where they came from, an older toolkit is not the target.
        library = re.search(r"#\s*include\s*<(cub|thrust|cuda)/", text)
        toolchain = self._toolchain
        command = [str(toolchain.nvcc), "-ccbin", str(toolchain.host_compiler)]
        command += [f"-std={'c++17' if library and toolchain.version >= (11, 0) else STANDARD}", "-O3", "-w"]
        command += self._architectures.gencode(fp8="cuda_fp8.h" in text)
        if threads > 1 and toolchain.version >= (11, 2):
            command += ["--threads", str(min(threads, self._architectures.front_ends))]
        for flag in _HOST_FLAGS:
            command += ["-Xcompiler", flag]
        return [*command, "-c"]

    def _host(self) -> list[str]:
        return [
            str(self._toolchain.host_compiler),
            f"-std={STANDARD}",
            *_HOST_FLAGS,
            *self._defines,
            *self._includes,
            "-c",
        ]

    def compile(self, unit: _Unit) -> _Compiled:
        """Makes `unit.output`, from the cache where it is there."""
        start = time.monotonic()
        key = self._key(unit) if unit.cacheable else ""
        cached = bool(key) and self.cache.load(key, unit.output)
        if not cached:
            # With relative names, so that the object does not depend on where the folder is.
            folder = self._copy_for_nvcc(unit) if unit.file.endswith(".cu") else unit.folder
            self._run([*unit.command, unit.file, "-o", str(unit.output)], folder, unit.folder.name, unit.file)
            if key:
                self.cache.store(key, unit.output)
        return _Compiled(time.monotonic() - start, cached)

    def _copy_for_nvcc(self, unit: _Unit) -> Path:
        """A folder with a shell-safe path that holds the unit and all that it may include."""
        folder = unit.output.with_suffix("")
        folder.mkdir()
        for path in (unit.folder / unit.file, *_headers_of(unit.folder)):
            shutil.copyfile(path, folder / path.name)
        return folder

    def _key(self, unit: _Unit) -> str:
        """What the object depends on, without the places of files."""
        toolchain = self._toolchain
        command = [word for word in unit.command if word not in self._includes]
        if "--threads" in command:
            at = command.index("--threads")
            del command[at : at + 2]
        parts: list[str | bytes] = [toolchain.build, toolchain.host_version, *self._variables, *command, unit.file]
        if not unit.file.endswith(".cu"):
            parts.append(self._header_key)
        for path in (unit.folder / unit.file, *_headers_of(unit.folder)):
            parts += [path.name, path.read_bytes()]
        return self.cache.key(parts)

    def link(self, source: LibrarySource, units: Sequence[_Unit], output: Path) -> float:
        """Makes the library; returns the seconds."""
        start = time.monotonic()
        command = [str(self._toolchain.host_compiler), "-shared", "-o", str(output.resolve())]
        command += [str(unit.output) for unit in units]
        command += [str(self._toolchain.cudart_static), "-lpthread", "-ldl", "-lrt"]
        command += [f"-Wl,-soname,{source.name}.so", f"-Wl,--version-script={self._exports}"]
        command += ["-Wl,--exclude-libs,ALL", "-Wl,--gc-sections", "-Wl,-z,defs", "-Wl,-z,now", "-Wl,-z,relro"]
        command += ["-Wl,-z,noexecstack"]
        self._run(command, source.folder, source.name, "link")
        return time.monotonic() - start

    def _run(self, command: list[str], folder: Path, name: str, what: str) -> None:
        """Runs a compiler. Raises `ToolchainError` with its first error; its whole output stays in a log file."""
        program = Path(command[0]).name
        try:
            done = subprocess.run(
                command,
                cwd=folder,
                env=self._environment,
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                errors="replace",
            )
        except OSError as error:
            raise ToolchainError(f"{program} cannot be run: {error.strerror}") from None
        if done.returncode == 0:
            return
        cause = _first_error(done.stdout)
        if done.returncode < 0 and not cause:
            cause = f"killed by signal {-done.returncode}"
        log = _write_log(command, folder, done.stdout)
        raise ToolchainError(
            f"{shorten(name)}: {program} failed on {what}: {shorten(cause or 'no message', 300)} (whole log: {log})"
        )


def _headers_of(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if path.suffix in _HEADER_SUFFIXES)


def _headers_digest(folders: Sequence[Path]) -> str:
    """Changes with TensorRT's headers and with ours, and not with what else lies in their folders."""
    paths = [
        path for folder in dict.fromkeys(folders) for pattern in ("Nv*.h", "nv*.h") for path in folder.glob(pattern)
    ]
    return ObjectCache.key([part for path in sorted(paths) for part in (path.name, path.read_bytes())])


def _first_error(output: str) -> str:
    """The first line of the compiler's output that tells an error; else its last line."""
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    for line in lines:
        if re.search(r"\b(fatal error|error|fatal|undefined reference|undefined symbol)\b", line, re.IGNORECASE):
            return line
    return lines[-1] if lines else ""


def _write_log(command: Sequence[str], folder: Path, output: str) -> str:
    """Keeps the command and its output in a file of the system's temporary folder; returns its path."""
    try:
        handle, path = tempfile.mkstemp(prefix="plugin_autogen-", suffix=".log")
        with os.fdopen(handle, "w", errors="replace") as file:
            file.write(f"in {folder}:\n{' '.join(command)}\n\n{output}")
    except OSError as error:
        return f"not written, {error.strerror}"
    return path
