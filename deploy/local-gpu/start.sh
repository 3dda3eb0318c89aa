#!/usr/bin/env bash
# Starts a scheduler, and one worker per GPU, on this machine. They run until this script ends.
#   start.sh [FILE]     writes FILE (by default cluster.json) for `cryolike-dask convert ... --scheduler-file FILE`
set -euo pipefail

file=${1:-cluster.json}
gpus=${CUDA_VISIBLE_DEVICES-$(nvidia-smi --query-gpu=index --format=csv,noheader | paste -sd,)}
[[ -n $gpus ]] || { echo "No GPU is visible: nvidia-smi lists none, or CUDA_VISIBLE_DEVICES is empty." >&2; exit 2; }

rm -f "$file"
trap 'kill $(jobs -p) 2>/dev/null; wait; rm -f "$file"' EXIT
dask scheduler --host 127.0.0.1 --port 0 --dashboard-address 127.0.0.1:0 --scheduler-file "$file" &
IFS=, read -ra each <<<"$gpus"
for gpu in "${each[@]}"; do
  CUDA_VISIBLE_DEVICES=$gpu dask worker --scheduler-file "$file" --host 127.0.0.1 --name "gpu-$gpu" \
    --nworkers 1 --nthreads 3 --resources GPU=1 --preload cryolike_dask.execution.plugin &
done
wait
