#!/bin/bash
# Train ResNet-50 on two machines with eight GPUs each, one worker a GPU: sbatch examples/cluster/slurm.sh
# This script was not run on a cluster; the environment of a step, exit codes and signals are tested.
#SBATCH --job-name=resnet50
#SBATCH --nodes=2
#SBATCH --ntasks-per-node=8
#SBATCH --gpus-per-task=1
#SBATCH --cpus-per-task=12
#SBATCH --time=24:00:00
#SBATCH --requeue
#SBATCH --signal=TERM@120

# The run folder must be on a file system that all nodes share. Tasks must be numbered node by node.
srun --distribution=block --kill-on-bad-exit=0 keras-resnet train \
  --preset=imagenet_resnet50 --data_dir="$DATA" --workdir="$RUNS/resnet50" \
  --batch_size=512 --learning_rate=0.2 --precision=mixed_bfloat16 \
  --strategy=multi_worker --peer_timeout=600
code=$?

# 143: stopped by SIGTERM, the step is saved. 75: a worker was lost. In both cases the job resumes from its checkpoint.
if [ "$code" -eq 143 ] || [ "$code" -eq 75 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
