#!/usr/bin/env bash
# From a fresh clone to predictions: sets up, renders the synthetic data into
# data/embedded/, trains the demo's model into work_dirs/demo/ and tests it into
# work_dirs/demo/val/ and work_dirs/demo/test/. 10 to 15 minutes on two cores.
set -euo pipefail
source "$(dirname -- "${BASH_SOURCE[0]}")/_common.sh"

if wants_help "$@"; then usage "${BASH_SOURCE[0]}"; exit 0; fi
[[ $# -eq 0 ]] || die "demo.sh takes no arguments; to train something else: bash tools/train.sh" 2
ensure_venv
unset HRI30_ROOT # the demo is for the synthetic data, wherever HRI30 is

cd "$ROOT"
config=$(echo configs/demo/*.py)
"$HRI30" embedded data/embedded --train-groups 50 --test-groups 10 --clips 1
rm -rf work_dirs/demo # an earlier demo
"$HRI30" train "$config" --work-dir work_dirs/demo
"$HRI30" test "$config" work_dirs/demo/best_top1_epoch_*.pth --out work_dirs/demo
