"""From what the user types after `--arch` to nvcc's `-gencode` options.

Code for many GPUs costs one run of the compiler's front end for each virtual architecture (0.15 to 0.25 s, most of it
spent on CUDA's own headers) and one of `ptxas` for each real one (0.02 s). So the GPUs of one generation share the
front end's result, the PTX of the generation's first member: with nvcc 13.0 and its 12 GPUs that is 4 front ends, 0.8 s
instead of 1.7 s for a small kernel on two cores.
"""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from plugin_autogen.build.toolchain import Toolchain
from plugin_autogen.errors import ToolchainError, shorten

OLDEST_DEFAULT = 75

_FRONT_ENDS = (50, 60, 70, 75, 80, 90, 100)
"""First members of the generations whose PTX serves the later ones up to the next entry. What came after 100 has no
instruction that plain CUDA C++ could use and compute_100 lacks; FP8 conversions (from 89 on) are `fp8` below."""

_FP8 = 89
"""The first GPU that converts FP8 in hardware; PTX of an older one spells the conversion out."""

NAMES: dict[str, tuple[int, ...]] = {
    # Jetson and Drive. Thor is sm_101 to CUDA 12.8 and 12.9 and sm_110 from 13.0 on.
    "jetson-nano": (53,),
    "jetson-tx1": (53,),
    "jetson-tx2": (62,),
    "jetson-xavier": (72,),
    "jetson-orin": (87,),
    "jetson-thor": (110, 101),
    "drive-orin": (87,),
    "drive-thor": (110, 101),
    # Data centre
    "p4": (61,),
    "p40": (61,),
    "p100": (60,),
    "v100": (70,),
    "t4": (75,),
    "a100": (80,),
    "a30": (80,),
    "a10": (86,),
    "a40": (86,),
    "l4": (89,),
    "l40": (89,),
    "l40s": (89,),
    "h100": (90,),
    "h200": (90,),
    "gh200": (90,),
    "b200": (100,),
    "gb200": (100,),
    "b300": (103,),
    "gb300": (103,),
    "dgx-spark": (121,),
    # Desktop
    "gtx-10": (61,),
    "gtx-16": (75,),
    "rtx-20": (75,),
    "rtx-30": (86,),
    "rtx-40": (89,),
    "rtx-50": (120,),
}
"""Products. All numbers of an entry name the same GPU; the first that the compiler knows is taken."""

FAMILIES: dict[str, tuple[int, ...]] = {
    "maxwell": (50, 52, 53),
    "pascal": (60, 61, 62),
    "volta": (70, 72),
    "turing": (75,),
    "ampere": (80, 86, 87),
    "ada": (89,),
    "hopper": (90,),
    "blackwell": (100, 103, 110, 120, 121),
}
"""Generations: all members that the compiler knows are taken."""


@dataclass(frozen=True)
class Architectures:
    """The GPUs that a library holds code for.

    Attributes:
        real: compute capabilities as numbers (80 for 8.0) with machine code, ascending.
        virtual: those whose PTX goes in, ascending; a GPU that is newer runs it after compiling it at load.
    """

    real: tuple[int, ...]
    virtual: tuple[int, ...] = ()

    def gencode(self, fp8: bool = False) -> list[str]:
        """nvcc's options.

        Args:
            fp8: the source converts FP8 values, so that GPUs with instructions for it get a front end that uses them.
        """
        groups: dict[int, list[int]] = {}
        for number in self.real:
            groups.setdefault(_front_end(number, fp8), []).append(number)
        codes: dict[int, list[str]] = {}
        for front_end, members in groups.items():
            # A single GPU gains nothing from its generation's PTX.
            codes[members[0] if len(members) == 1 else front_end] = [f"sm_{number}" for number in members]
        for number in self.virtual:
            codes.setdefault(number, []).append(f"compute_{number}")
        return [
            option
            for front_end, names in sorted(codes.items())
            for option in ("-gencode", f"arch=compute_{front_end},code=[{','.join(names)}]")
        ]

    @property
    def oldest(self) -> int:
        """The oldest one; `OLDEST_DEFAULT` where a compiler elsewhere decides."""
        return min((*self.real, *self.virtual), default=OLDEST_DEFAULT)

    @property
    def front_ends(self) -> int:
        """How many times nvcc parses the source: what its `--threads` can work on at once."""
        return len(self.gencode()) // 2

    def __str__(self) -> str:
        return " ".join([*(f"sm_{n}" for n in self.real), *(f"compute_{n}" for n in self.virtual)])


def _front_end(number: int, fp8: bool) -> int:
    starts = (*_FRONT_ENDS, _FP8) if fp8 else _FRONT_ENDS
    return max((start for start in starts if start <= number), default=number)


def resolve(values: Sequence[str], toolchain: Toolchain | None) -> Architectures:
    """The architectures for the values of `--arch`.

    Args:
        toolchain: what will compile; None for one elsewhere, which is taken to know what is named, and to decide itself
            where `values` say `all`.
        values: each `sm_90`, `90`, `9.0`, `compute_90` (PTX only), `native`, `all`, or a name of `NAMES` or `FAMILIES`;
            none means `all`: all that the compiler knows from sm_75 up, and PTX of the newest front end for what comes.

    Raises:
        ToolchainError: a value that is none of these, one that the compiler does not know (says what it knows), or
            `native` without a GPU.
    """
    real: set[int] = set()
    virtual: set[int] = set()
    for value in values or ("all",):
        text = value.strip().lower().replace(" ", "-").replace("_", "-")
        match = re.fullmatch(r"(?:(sm|compute)-)?([0-9]{2,3}|[0-9]{1,2}\.[0-9])", text)
        if text in ("all", "default"):
            if toolchain is None:
                continue
            known = tuple(n for n in toolchain.architectures if n >= OLDEST_DEFAULT) or toolchain.architectures
            real.update(known)
            virtual.add(max((n for n in known if n in _FRONT_ENDS), default=known[-1]))
        elif text == "native":
            real.update(_known(number, f"this machine's GPU, sm_{number},", toolchain) for number in native())
        elif match:
            number = int(match[2].replace(".", ""))
            (virtual if match[1] == "compute" else real).add(_known(number, f"{match[1] or 'sm'}_{number}", toolchain))
        elif text in NAMES:
            numbers = NAMES[text]
            known_number = next((n for n in numbers if toolchain and n in toolchain.architectures), numbers[0])
            real.add(_known(known_number, f"{text} (sm_{known_number})", toolchain))
        elif text in FAMILIES:
            members = [n for n in FAMILIES[text] if toolchain is None or n in toolchain.architectures]
            if toolchain and not members:
                raise ToolchainError(_unknown(f"{text} ({_list(FAMILIES[text])})", toolchain, FAMILIES[text][-1]))
            real.update(members)
        elif re.fullmatch(r"(?:(sm|compute)-)?[0-9]{2,3}[af]", text):
            plain = re.sub(r"\D", "", text)
            raise ToolchainError(
                f"--arch {shorten(value)}: generated kernels need no architecture-specific code; write sm_{plain}"
            )
        else:
            import difflib

            choices = [*NAMES, *FAMILIES, "native", "all"]
            near = difflib.get_close_matches(text, choices, n=3)
            hint = f"did you mean {' or '.join(near)}? " if near else ""
            raise ToolchainError(
                f"--arch {shorten(value)}: {hint}write sm_90, 90, compute_90, native, all, or a name such as "
                f"jetson-orin, ampere or hopper"
            )
    return Architectures(tuple(sorted(real)), tuple(sorted(virtual)))


def _known(number: int, name: str, toolchain: Toolchain | None) -> int:
    if toolchain is not None and number not in toolchain.architectures:
        raise ToolchainError(_unknown(name, toolchain, number))
    return number


def _unknown(name: str, toolchain: Toolchain, number: int) -> str:
    first, last = toolchain.architectures[0], toolchain.architectures[-1]
    if number < first:
        remedy = "write the source alone with --source_only, and compile it on the board with its own CUDA 10.2 to 12"
    elif number > last:
        remedy = f"use a newer CUDA compiler, or compute_{last}, whose PTX newer GPUs run"
    else:
        remedy = f"choose one of {_list(toolchain.architectures)}"
    return f"--arch: {toolchain.title} does not know {name}; it knows sm_{first} to sm_{last}: {remedy}"


def _list(numbers: Iterable[int]) -> str:
    return ", ".join(f"sm_{number}" for number in numbers)


def native() -> tuple[int, ...]:
    """Compute capabilities of this machine's GPUs as numbers, ascending, each once.

    Raises:
        ToolchainError: no GPU, or no driver.
    """
    found = sorted(set(_from_driver() or _from_nvidia_smi()))
    if not found:
        raise ToolchainError(
            "--arch native: no NVIDIA GPU found here; name the GPU that will run the plugin (sm_90, say)"
        )
    return tuple(found)


def _from_driver() -> list[int]:
    """Asks libcuda: Jetson boards before JetPack 6 have no nvidia-smi."""
    import ctypes

    try:
        cuda = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return []
    count = ctypes.c_int(0)
    if cuda.cuInit(0) != 0 or cuda.cuDeviceGetCount(ctypes.byref(count)) != 0:
        return []
    found = []
    for index in range(count.value):
        device, major, minor = ctypes.c_int(0), ctypes.c_int(0), ctypes.c_int(0)
        if cuda.cuDeviceGet(ctypes.byref(device), index) != 0:
            continue
        # CU_DEVICE_ATTRIBUTE_COMPUTE_CAPABILITY_MAJOR and _MINOR
        failed = cuda.cuDeviceGetAttribute(ctypes.byref(major), 75, device)
        failed = cuda.cuDeviceGetAttribute(ctypes.byref(minor), 76, device) or failed
        if not failed:
            found.append(major.value * 10 + minor.value)
    return found


def _from_nvidia_smi() -> list[int]:
    program = shutil.which("nvidia-smi")
    if program is None:
        return []
    query = [program, "--query-gpu=compute_cap", "--format=csv,noheader"]
    try:
        text = subprocess.run(query, capture_output=True, text=True, timeout=30, stdin=subprocess.DEVNULL).stdout
    except (OSError, subprocess.TimeoutExpired):
        return []
    return [int(major) * 10 + int(minor) for major, minor in re.findall(r"^\s*(\d+)\.(\d)\s*$", text, re.M)]
