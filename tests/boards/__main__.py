"""Source bundles against compilers that CI's machine has not got.

    python -m tests.boards host --compiler g++-11 --compiler clang++-13 --compiler aarch64-linux-gnu-g++-11
    python -m tests.boards host --root DIR --compiler g++-9
    python -m tests.boards device --nvrtc LIBRARY --headers DIR --architecture 60 [--target BOARD | --conformance]

`host` compiles the host part of the bundle of every board and JetPack release, as C++14 with all warnings as errors;
with --root, by a compiler inside another Debian's root folder (needs the right to chroot):

    debootstrap --variant=minbase --include=g++-9,clang-9,make bullseye DIR

`device` compiles device code with an old CUDA's run-time compiler. CUDA 10.2's is in PyTorch's wheel of 1.8.1
(libnvrtc-*.so.10.2 and libnvrtc-builtins.so, which must be on LD_LIBRARY_PATH), cuda_fp16.h in cupy-cuda102's.
The code is that of the 20 operators of tests/acceptance_cases.py for a board (jetson-nano), or of all of ONNX's node
tests for TensorRT 8 and sm_53.

Exits with 1 if anything does not compile.
"""

from __future__ import annotations

import argparse
import shutil
import sys
import tempfile
from pathlib import Path

from plugin_autogen.build import targets
from plugin_autogen.build.architectures import NAMES
from plugin_autogen.build.toolchain import find_toolchain
from tests.boards import bundles, device


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.boards")
    commands = parser.add_subparsers(dest="command", required=True)
    host = commands.add_parser("host")
    host.add_argument("--compiler", action="append", required=True)
    host.add_argument("--root", type=Path)
    host.add_argument("--usual", action="store_true", help="each board with its usual JetPack alone")
    old = commands.add_parser("device")
    old.add_argument("--nvrtc", type=Path, required=True)
    old.add_argument("--headers", type=Path, required=True)
    old.add_argument("--architecture", type=int, required=True)
    old.add_argument("--target", default="jetson-nano")
    old.add_argument("--conformance", action="store_true")
    arguments = parser.parse_args()
    return _host(arguments) if arguments.command == "host" else _device(arguments)


def _host(arguments: argparse.Namespace) -> int:
    failures = 0
    everything = targets.targets()
    for target in [t for t in everything if not arguments.usual or t == targets.target(t.name)]:
        with tempfile.TemporaryDirectory() as scratch:
            folder = bundles.library_folder(bundles.bundle(f"{target.name}:{target.jetpack}", Path(scratch)))
            for compiler in arguments.compiler:
                try:
                    if arguments.root is None:
                        objects = bundles.compile_host_part(folder, compiler)
                        told = f"{len(objects)} objects for machine {bundles.machine_of(objects[0])}"
                    else:
                        told = _in_root(arguments.root, folder, compiler)
                except AssertionError as error:
                    told, failures = f"FAILS: {error}", failures + 1
                print(f"{target.title:70} {compiler:28} {told}", flush=True)
    return int(failures > 0)


def _in_root(root: Path, folder: Path, compiler: str) -> str:
    """Compiles in a copy inside the root."""
    with tempfile.TemporaryDirectory(dir=root / "tmp") as scratch:
        copy = Path(scratch)
        shutil.copytree(folder.parent, copy / "src")
        shutil.copytree(find_toolchain().include_dirs[0], copy / "cuda")
        inside = Path("/") / copy.relative_to(root)
        bundles.run(
            ["chroot", str(root), "make", "-C", str(inside / "src" / folder.name), "host", f"CXX={compiler}",
             f"CXXFLAGS={bundles.STRICT}", f"CUDA_INCLUDE_DIR={inside / 'cuda'}"],
            root,
        )  # fmt: skip
        objects = list((copy / "src" / folder.name / "build").glob("*.o"))
        return f"{len(objects)} objects for machine {bundles.machine_of(objects[0])}"


def _device(arguments: argparse.Namespace) -> int:
    compiler = device.Nvrtc(arguments.nvrtc, arguments.headers)
    oldest = min(NAMES["jetson-nano"])
    kernels = (
        device.conformance_kernels(oldest) if arguments.conformance else device.acceptance_kernels(arguments.target)
    )
    total = failures = 0
    for name, source in kernels:
        total += 1
        errors = compiler.errors(source, arguments.architecture)
        if errors:
            failures += 1
            print(f"{name}: {errors}", flush=True)
    print(f"CUDA {compiler.release}, compute_{arguments.architecture}: {total - failures} of {total} compile")
    return int(failures > 0 or total == 0)


if __name__ == "__main__":
    sys.exit(main())
