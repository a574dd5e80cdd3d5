#!/usr/bin/env bash
# Test with several processes:  bash tools/dist_test.sh CONFIG CHECKPOINT GPUS [arguments of tools/test.py]
# Without a GPU the processes share the CPU. Several machines: run it on each with NNODES, NODE_RANK, MASTER_ADDR and
# PORT set. PYTHON names the interpreter.
if [ $# -lt 3 ]; then sed -n '2,4s/^# //p' "$0" >&2; exit 2; fi
source "$(dirname "$0")/torchrun.sh"
torchrun_tool "$3" test.py "$1" "$2" "${@:4}"
