#!/usr/bin/env bash
# Everything that is to be measured on a GPU, in under nine minutes: results in $OUT (default benchmarks/out/gpu).
#   PYTHON=.venv/bin/python bash benchmarks/gpu.sh [--authors CLONE] [--try]
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
exec "${PYTHON:-python}" "$root/tools/benchmark.py" suite gpu --out "${OUT:-$root/benchmarks/out/gpu}" "$@"
