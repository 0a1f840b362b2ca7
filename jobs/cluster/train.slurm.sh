#!/bin/bash
# Training on Slurm: one task for each GPU of the allocation, and the job queued again until the run has done its steps.
#
#     sbatch jobs/cluster/train.slurm.sh CONFIG.yaml [further options of `python -m trainer.train`]
#
# Look first, without a GPU: editmill train CONFIG.yaml --dry-run
#
# EDIT: the partition, how many nodes, GPUs and cores of a node, how long.
#SBATCH --job-name=editmill-train
#SBATCH --partition=gpu
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=12
#SBATCH --time=24:00:00
# Ten minutes before the time is up, and at a pre-emption, the ranks are told to save. EDIT: as long as that takes.
#SBATCH --signal=USR1@600
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=editmill-train-%j.log
set -uo pipefail

if [ "$#" -lt 1 ]; then
  echo "usage: sbatch $0 CONFIG.yaml [options of python -m trainer.train]" >&2
  exit 2
fi

# EDIT: enter the environment that holds editmill, on a file system that all nodes see.
source "${EDITMILL_ENVIRONMENT:-$HOME/editmill/.venv}/bin/activate"

MASTER_ADDR=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
export MASTER_ADDR
export MASTER_PORT="${MASTER_PORT:-$((20000 + SLURM_JOB_ID % 20000))}"
export OMP_NUM_THREADS="${OMP_NUM_THREADS:-${SLURM_CPUS_PER_TASK:-1}}"

# No launcher stands between Slurm and the ranks, so that its signals reach them and their exit codes reach it. A task that
# fails ends the others, which would wait for it. 75: saved, and not finished.
srun --kill-on-bad-exit=1 bash -c '
  export RANK=$SLURM_PROCID LOCAL_RANK=$SLURM_LOCALID WORLD_SIZE=$SLURM_NTASKS
  exec python -m trainer.train "$@"
' rank "$@" --unfinished-code 75
code=$?

if [ "$code" -eq 75 ]; then
  echo "saved; queued again to go on"
  scontrol requeue "$SLURM_JOB_ID"
  exit 0
fi
exit "$code"
