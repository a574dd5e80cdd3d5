#!/usr/bin/env bash
# From JPEG files to the step, in under nine minutes, with a GPU or, the loader alone, without: results in $OUT (default
# benchmarks/out/feeding). The files are made there.
#   PYTHON=.venv/bin/python bash benchmarks/feeding.sh [--try]
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
exec "${PYTHON:-python}" "$root/tools/benchmark.py" suite feeding --out "${OUT:-$root/benchmarks/out/feeding}" "$@"
