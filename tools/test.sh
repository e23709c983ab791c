#!/usr/bin/env bash
# Tests a checkpoint: bash tools/test.sh [CONFIG] CHECKPOINT [options]; --help lists them.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/_common.sh"
run_verb test "$@"
