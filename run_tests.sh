#!/usr/bin/env bash
# Runs all tests; arguments go to pytest: ./run_tests.sh tests/unit -k render
# Needs Python >= 3.10, g++, make and the package index; everything else is installed into .venv. No GPU, no CUDA toolkit.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
source scripts/environment.sh all,test
# One process for each core: TVM and the compilers take one thread each.
exec python -m pytest -q --numprocesses "$(nproc)" --dist worksteal "$@"
