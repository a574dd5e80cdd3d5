#!/usr/bin/env bash
# Train with several processes:  bash tools/dist_train.sh CONFIG GPUS [arguments of tools/train.py]
# Without a GPU the processes share the CPU. Several machines: run it on each with NNODES, NODE_RANK, MASTER_ADDR and
# PORT set. PYTHON names the interpreter.
if [ $# -lt 2 ]; then sed -n '2,4s/^# //p' "$0" >&2; exit 2; fi
source "$(dirname "$0")/torchrun.sh"
torchrun_tool "$2" train.py "$1" "${@:3}"
