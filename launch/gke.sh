#!/usr/bin/env bash
# Trains on a TPU slice of a GKE cluster, through XPK:
#   launch/gke.sh CLUSTER v5p-256 IMAGE --config=configs/... --workdir=/mnt/shared/run
#
# Needs: xpk (`pip install xpk`) with a project and zone set in gcloud; CLUSTER made by `xpk cluster
# create`, with a file system attached that every pod mounts (`xpk storage attach`: Filestore or a
# bucket), which holds the data and --workdir; IMAGE, a container with this repository in /rt2 and
# `pip install -e "/rt2[tpu]"`. Hosts, their number and the coordinator are found by jax in the
# variables that GKE sets.
#
# Resumes: an evicted pod gets SIGTERM, the run saves its step and ends with 75; the whole JobSet is
# then started again, as it is when a pod is killed, and goes on from the newest checkpoint.
set -euo pipefail
cluster=$1 slice=$2 image=$3
shift 3

quoted=$(printf '%q ' "$@")
xpk workload create --cluster="$cluster" --tpu-type="$slice" --num-slices="${SLICES:-1}" \
    --docker-image="$image" --workload="${WORKLOAD:-rt2-$(date +%m%d%H%M)}" \
    --max-restarts=50 --restart-on-exit-codes=75 --termination-grace-period-seconds=180 \
    --command="cd /rt2 && exec python -m rt2.train $quoted"
