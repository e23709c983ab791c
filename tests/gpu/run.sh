#!/usr/bin/env bash
# Runs the GPU tests on the Python and torch that are there, without network, and leaves
# gpu.xml, which has the figures of each test as its properties.
#
# Usage: [PYTHON=python3] bash tests/gpu/run.sh [--wheels D] [--out D] [pytest's arguments]
#
#   PYTHON      a Python with torch and torchvision for CUDA; default python3
#   --wheels D  the other packages, from tests/gpu/wheels.sh: they go into a folder
#               within --out; without it, PYTHON must have them
#   --out D     default work_dirs/gpu
#
# For example: PYTHON=.venv/bin/python bash tests/gpu/run.sh -k fp64
set -euo pipefail
# shellcheck source=tools/_common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/../../tools/_common.sh"
if wants_help "$@"; then usage "${BASH_SOURCE[0]}" && exit; fi

PYTHON="${PYTHON:-python3}" wheels='' out="$ROOT/work_dirs/gpu" arguments=()
while (($#)); do
    case "$1" in
    --wheels) wheels="${2:?--wheels: expected a folder}" && shift 2 ;;
    --out) out="${2:?--out: expected a folder}" && shift 2 ;;
    *) arguments+=("$1") && shift ;;
    esac
done
mkdir -p -- "$out"
out="$(cd -- "$out" && pwd)"
"$PYTHON" -c 'import torch, torchvision' || die "PYTHON=$PYTHON: has no torch and torchvision" 2
if [[ -n "$wheels" ]]; then
    "$PYTHON" -m pip install --quiet --no-index --no-deps --upgrade \
        --target "$out/packages" "$wheels"/*.whl
fi
export PYTHONPATH="$ROOT:$out/packages" HRI30_TEST_GPU=1
status=0
"$PYTHON" -m pytest "$ROOT/tests/gpu" -p no:cacheprovider -rs --junit-xml "$out/gpu.xml" \
    "${arguments[@]}" || status=$?
printf 'Figures: %s\n' "$out/gpu.xml"
exit "$status"
