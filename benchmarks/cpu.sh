#!/usr/bin/env bash
# What two cores can measure, in under ten minutes: results in $OUT (default benchmarks/out/cpu).
#   PYTHON=.venv/bin/python bash benchmarks/cpu.sh [--authors CLONE] [--try]
set -euo pipefail
root=$(cd "$(dirname "$0")/.." && pwd)
exec "${PYTHON:-python}" "$root/tools/benchmark.py" suite cpu --out "${OUT:-$root/benchmarks/out/cpu}" "$@"
