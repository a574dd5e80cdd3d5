# Read by dist_train.sh and dist_test.sh.

# torchrun_tool PROCESSES TOOL [arguments]: replaces the shell, so that signals and the exit code are torchrun's.
torchrun_tool() {
    local processes=$1 tools
    tools=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
    export PYTHONPATH="$(dirname "$tools")${PYTHONPATH:+:$PYTHONPATH}"
    local python=${PYTHON:-python}
    if ! [[ $processes =~ ^[1-9][0-9]*$ ]]; then
        echo "error: GPUS is the number of processes on this machine, not '$processes'" >&2
        exit 2
    fi
    # Each process gets its share of the cores; torchrun and MMEngine would give it one.
    local cores
    cores=$("$python" -c 'import os; print(len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count())') || exit
    export OMP_NUM_THREADS=${OMP_NUM_THREADS:-$((cores > processes ? cores / processes : 1))}
    export MKL_NUM_THREADS=${MKL_NUM_THREADS:-$OMP_NUM_THREADS}

    local rendezvous
    if [ "${NNODES:-1}" = 1 ] && [ -z "$PORT" ]; then
        rendezvous=(--standalone --local-addr 127.0.0.1) # any free port: two runs can share a machine
    else
        rendezvous=(--nnodes "${NNODES:-1}" --node-rank "${NODE_RANK:-0}"
            --master-addr "${MASTER_ADDR:-127.0.0.1}" --master-port "${PORT:-29500}")
    fi
    exec "$python" -m mae_plugin.utils.torchrun "${rendezvous[@]}" --nproc-per-node "$processes" \
        "$tools/$2" "${@:3}" --launcher pytorch
}
