#!/usr/bin/env bash
# Predicts clips: bash tools/predict.sh MODEL SOURCE... [options]; --help lists them.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/_common.sh"
unset GPUS NNODES # of a training; one process predicts
run_verb predict "$@"
