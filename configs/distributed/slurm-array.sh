#!/bin/bash
# Purpose:     a study on a cluster: task 0 of the array leads it, all others are workers.
# Assumptions: Slurm; a file system that all nodes share, with this repository and its .venv on it (make install, then
#              .venv/bin/pip install -c constraints.txt '.[distributed]'); a PostgreSQL database that the nodes reach, its
#              URL in OLIVINE_STORAGE; nodes of one kind, since latency is compared only between equal ones (others build
#              and score, and say so). Whole nodes: a neighbour's work would be timed with ours.
# Command:     OLIVINE_STORAGE=postgresql://USER:PASSWORD@HOST/DATABASE sbatch configs/distributed/slurm-array.sh STUDY.yaml
#
#SBATCH --job-name=olivine
#SBATCH --array=0-3
#SBATCH --ntasks=1
#SBATCH --cpus-per-task=8
#SBATCH --mem=32G
#SBATCH --exclusive
#SBATCH --time=04:00:00
#SBATCH --output=olivine-%A-%a.log
set -euo pipefail

config=${1:?name the study: sbatch slurm-array.sh STUDY.yaml}
: "${OLIVINE_STORAGE:?set OLIVINE_STORAGE to the URL of the database}"
# A cache for each node: its file locks are the node's own, and builds read and write fast.
export OLIVINE_CACHE=${OLIVINE_CACHE:-${TMPDIR:-/tmp}/olivine-cache}
out=results/$(basename "$config" .yaml)

if [ "${SLURM_ARRAY_TASK_ID:-0}" -eq 0 ]; then
    exec .venv/bin/olivine run "$config" --out "$out" --storage "$OLIVINE_STORAGE"
fi
exec .venv/bin/olivine worker "$config" --out "$out" --storage "$OLIVINE_STORAGE" --wait 2h
