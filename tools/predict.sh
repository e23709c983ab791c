#!/usr/bin/env bash
# Predicts clips: bash tools/predict.sh MODEL SOURCE... [options]; --help lists them.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/_common.sh"
run_program predict "$@"
