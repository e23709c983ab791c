#!/usr/bin/env bash
# Trains a config: bash tools/train.sh CONFIG [options]; --help lists them.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/_common.sh"

if wants_help "$@"; then exec python3 "$ROOT/tools/train.py" --help; fi
ensure_venv
launch_exec "$ROOT/tools/train.py" "$@"
