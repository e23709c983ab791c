#!/usr/bin/env bash
# Trains a config: bash tools/train.sh CONFIG [options]; --help lists them.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/_common.sh"
run_verb train "$@"
