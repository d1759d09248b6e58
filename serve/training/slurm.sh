#!/bin/bash
# Two nodes train one model, with a worker for each of their GPUs:  sbatch slurm.sh model=bilstm_crf data=conll2003
# The folder of the job has to be seen by all nodes. A job that was preempted is started again by Slurm, and goes on
# after its last whole epoch.
#SBATCH --job-name=trellis
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=1
#SBATCH --cpus-per-task=8
#SBATCH --time=24:00:00
#SBATCH --requeue
# With GPUs, one for each task: #SBATCH --gres=gpu:1
set -euo pipefail

hosts=$(scontrol show hostnames "$SLURM_JOB_NODELIST")
tasks=${SLURM_NTASKS_PER_NODE:-1}
first=$((20000 + SLURM_JOB_ID % 10000)) # two jobs on one node get other ports
addresses=""
for host in $hosts; do
    for ((task = 0; task < tasks; task++)); do
        addresses+="${addresses:+, }\"$host:$((first + task))\""
    done
done
export addresses

# Each task is the worker of its rank; ranks go from node to node (--distribution=block).
srun --distribution=block --kill-on-bad-exit=1 bash -c '
    export TF_CONFIG="{\"cluster\": {\"worker\": [$addresses]}, \"task\": {\"type\": \"worker\", \"index\": $SLURM_PROCID}}"
    exec trellis train "$@" trainer.strategy=multi_worker trainer.connect_timeout=900 \
        hydra.run.dir="runs/$SLURM_JOB_ID" resume=true
' trellis "$@"
