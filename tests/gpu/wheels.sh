#!/usr/bin/env bash
# Downloads what tests/gpu/run.sh needs beside torch and torchvision into a folder.
#
# Usage: [PYTHON=python3] bash tests/gpu/wheels.sh D
#
#   PYTHON  a Python of the version that the machine with the GPU has; default python3
set -euo pipefail
# shellcheck source=tools/_common.sh
source "$(dirname -- "${BASH_SOURCE[0]}")/../../tools/_common.sh"
if wants_help "$@"; then usage "${BASH_SOURCE[0]}" && exit; fi
[[ $# == 1 ]] || die "expected one folder; see --help" 2

mkdir -p -- "$1"
# The package onnxruntime has no CUDA, and its files would be those of onnxruntime-gpu.
sed 's/^onnxruntime==/onnxruntime-gpu==/' "$ROOT/requirements.lock" >"$1/requirements.txt"
"${PYTHON:-python3}" -m pip download --no-deps --only-binary=:all: --dest "$1" \
    -r "$1/requirements.txt"
