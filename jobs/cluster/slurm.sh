#!/bin/bash
# A job on Slurm: starts Ray on all nodes of the allocation, runs the job on the first, and takes Ray down.
#
#     sbatch jobs/cluster/slurm.sh CONFIG.yaml [further options of `editmill run`]
#
# EDIT: the partition, how many nodes, how long.
#SBATCH --job-name=editmill
#SBATCH --partition=cpu
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --exclusive
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --output=editmill-%j.log
set -euo pipefail

if [ "$#" -lt 1 ]; then
  echo "usage: sbatch $0 CONFIG.yaml [options of editmill run]" >&2
  exit 2
fi

# EDIT: enter the environment that holds editmill, on a file system that all nodes see.
source "${EDITMILL_ENVIRONMENT:-$HOME/editmill/.venv}/bin/activate"

head_node=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export RAY_ADDRESS="$head_node:${RAY_PORT:-6379}"
export RAY_USAGE_STATS_ENABLED=0

# What is wrong with config, input or models is told before any node is busy.
editmill run "$@" --check

# On every node; the command after -- runs on the head alone, once all nodes have joined.
srun ray symmetric-run --address "$RAY_ADDRESS" --min-nodes "$SLURM_JOB_NUM_NODES" \
  --num-cpus "${SLURM_CPUS_ON_NODE:-$(nproc)}" -- \
  editmill run "$@" --runner ray --address auto
