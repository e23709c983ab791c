#!/usr/bin/env bash
# Tests a checkpoint: bash tools/test.sh CONFIG CHECKPOINT [options]; --help lists them.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/_common.sh"

if wants_help "$@"; then exec python3 "$ROOT/tools/test.py" --help; fi
ensure_venv
launch_exec "$ROOT/tools/test.py" "$@"
