#!/usr/bin/env bash
# Training under Slurm: sbatch deploy/slurm.sh. One process a node, which takes all its GPUs.
#SBATCH --job-name=sqznet
#SBATCH --nodes=4
#SBATCH --ntasks-per-node=1
#SBATCH --gpus-per-node=8
#SBATCH --cpus-per-task=64
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --open-mode=append
#SBATCH --output=sqznet-%j.txt
# Two minutes before the time is up the workers are told, finish their steps and save.
#SBATCH --signal=TERM@120
set -euo pipefail

# A folder that all nodes see, and one that holds the same shards on all of them.
run_dir=${RUN_DIR:-$HOME/runs/imagenet}
data=${DATA:-/scratch/imagenet}

# Worker 0 is the chief; Slurm's variables tell each process which it is. A lost worker ends all of them.
code=0
srun --kill-on-bad-exit=0 python -m sqznet.train \
  --strategy=multiworker \
  --recipe=article \
  --data="$data" \
  --run_dir="$run_dir" \
  --resume \
  || code=$?

# Only what may pass is queued again, up to fifty times: 75 (a lost worker, a full disk ...) and the end by SIGINT,
# SIGKILL or SIGTERM, as when the time is up. It goes on where the last checkpoint stands. A mistyped flag (2) fails
# every time, and so may an abort (134) or a segmentation fault (139).
case "$code" in
  75 | 130 | 137 | 143)
    if [ "${SLURM_RESTART_COUNT:-0}" -lt 50 ]; then
      scontrol requeue "$SLURM_JOB_ID"
    fi
    ;;
esac
exit "$code"
