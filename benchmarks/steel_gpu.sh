#!/usr/bin/env bash
# The steel study on a GPU, at most so many minutes a call (LIMIT seconds, default 560); the same call goes on.
#   PYTHON=.venv/bin/python bash benchmarks/steel_gpu.sh small [--jobs N] [--dry-run]
# Sizes: small, base (GPU), tiny (also two cores). Tables and logs of what has finished: $OUT, default docs/results/NAME.
set -euo pipefail
cd "$(dirname "$0")/.."
size=${1:?usage: steel_gpu.sh small|base|tiny [options of tools/chain.py]}
shift
chain=configs/chains/neu_steel_$size.py
[[ -f $chain ]] || { echo "steel_gpu.sh: there is no $chain; sizes: small, base, tiny" >&2; exit 1; }
code=0
timeout --signal=TERM --kill-after=30 "${LIMIT:-560}" "${PYTHON:-python}" tools/chain.py "$chain" "$@" || code=$?
[[ " $* " == *" --dry-run "* ]] && exit "$code"
"${PYTHON:-python}" tools/results.py "$chain" --no-page --out "${OUT:-docs/results/neu_steel_$size}"
case $code in
    0) echo "steel_gpu.sh: all runs have finished" ;;
    124 | 137 | 143) echo "steel_gpu.sh: the time is over; the same call goes on"; code=0 ;;
esac
exit "$code"
