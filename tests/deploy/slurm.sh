#!/usr/bin/env bash
# A Slurm of one node on loopback, in a temporary folder, for as long as the tests marked `slurm` run. As root, on Debian:
#   tests/deploy/slurm.sh [options of pytest]
# PYTHON names the interpreter in which the project is installed.
set -euo pipefail

cd "$(dirname "${BASH_SOURCE[0]}")/../.."
python=${PYTHON:-python}

for program in munged slurmctld slurmd sbatch; do
  if ! command -v "$program" >/dev/null; then
    apt-get update -q
    DEBIAN_FRONTEND=noninteractive apt-get install -q -y --no-install-recommends munge slurm-wlm
    break
  fi
done

folder=$(mktemp -d)
chmod 755 "$folder"
started=()
stop() {
  status=$?
  [[ $status -eq 0 ]] || tail -n 40 "$folder"/*.log >&2
  # The node first, while there is a controller to tell; a step that still runs is not waited for.
  for ((i = ${#started[@]} - 1; i >= 0; i--)); do
    kill "${started[i]}" 2>/dev/null || true
    wait "${started[i]}" 2>/dev/null || true
  done
  rm -rf "$folder"
  exit "$status"
}
trap stop EXIT

read -r controller_port node_port < <("$python" -c '
import socket
sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(s.getsockname()[1] for s in sockets))')

mkdir -p "$folder"/{state,spool,munge}
head -c 128 /dev/urandom >"$folder/munge/key"
chmod 600 "$folder/munge/key"

cat >"$folder/slurm.conf" <<END
ClusterName=loopback
SlurmctldHost=$(hostname -s)(127.0.0.1)
SlurmctldPort=$controller_port
SlurmdPort=$node_port
SlurmUser=$(id -un)
SlurmdUser=$(id -un)
AuthType=auth/munge
AuthInfo=socket=$folder/munge/socket
CredType=cred/munge
StateSaveLocation=$folder/state
SlurmdSpoolDir=$folder/spool
SlurmctldPidFile=$folder/slurmctld.pid
SlurmdPidFile=$folder/slurmd.pid
SlurmctldLogFile=$folder/slurmctld.log
SlurmdLogFile=$folder/slurmd.log
ProctrackType=proctrack/linuxproc
TaskPlugin=task/none
JobAcctGatherType=jobacct_gather/none
SelectType=select/linear
SchedulerParameters=sched_interval=1,bf_interval=1
MpiDefault=none
KillWait=2
ReturnToService=2
NodeName=$(hostname -s) NodeAddr=127.0.0.1 CPUs=2 RealMemory=2000 State=UNKNOWN
PartitionName=all Nodes=ALL Default=YES MaxTime=INFINITE State=UP
END
export SLURM_CONF=$folder/slurm.conf

munged --foreground --force --key-file="$folder/munge/key" --socket="$folder/munge/socket" --pid-file="$folder/munge/pid" \
  --log-file="$folder/munge.log" --seed-file="$folder/munge/seed" >"$folder/munged.log" 2>&1 &
started+=($!)
until [[ -S $folder/munge/socket ]]; do
  kill -0 "${started[0]}" || exit 1
  sleep 0.1
done
slurmctld -D >/dev/null 2>&1 &
started+=($!)
slurmd -D >/dev/null 2>&1 &
started+=($!)

for _ in {1..300}; do
  [[ $(sinfo --noheader --format=%T 2>/dev/null) == idle ]] && break
  for process in "${started[@]}"; do
    kill -0 "$process" || exit 1
  done
  sleep 0.1
done
sinfo
"$python" -m pytest -m slurm tests/deploy "$@"
