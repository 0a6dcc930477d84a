# Makes .venv in the checkout with plugin_autogen and the extras named, and puts it first on PATH:
#     source scripts/environment.sh nvcc,engine
# Needs Python >= 3.10, g++ and the package index, nothing else. A second call takes a second.
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
extras=${1:?name the extras, such as nvcc,engine}

# The newest Python that the wheels of TensorRT-RTX exist for, else whatever is there.
python=
for candidate in python3.12 python3.11 python3.10 python3; do
  if command -v "$candidate" >/dev/null && "$candidate" -c 'import sys, venv; sys.exit(sys.version_info < (3, 10))' 2>/dev/null; then
    python=$candidate
    break
  fi
done
if [ -z "$python" ]; then
  echo "error: no Python >= 3.10 with the venv module found: install python3 and python3-venv" >&2
  return 1
fi

stamp="$root/.venv/.installed-$extras"
if [ ! -f "$stamp" ] || [ "$root/pyproject.toml" -nt "$stamp" ]; then
  [ -x "$root/.venv/bin/python" ] || "$python" -m venv "$root/.venv" || return 1
  "$root/.venv/bin/python" -m pip install --quiet --disable-pip-version-check --editable "$root[$extras]" || return 1
  touch "$stamp"
fi
export PATH="$root/.venv/bin:$PATH"
