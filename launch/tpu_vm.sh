#!/usr/bin/env bash
# Trains on every host of a Cloud TPU VM slice:
#   launch/tpu_vm.sh NAME ZONE --config=configs/... --workdir=/mnt/shared/run [--config.a.b=value]
#
# Needs: gcloud with rights on the slice NAME; this repository in ~/rt2 and the data at the same
# paths on every host (launch/tpu_vm_setup.sh brings the first and the environment); --workdir on a
# file system that all hosts mount (Filestore, or a bucket through gcsfuse).
# Hosts, their number and the coordinator are found by jax; nothing is named here.
#
# Resumes: launch/again.sh on every host starts the process again after a lost neighbour, and it
# goes on from the newest checkpoint. If the slice itself was preempted, create it again (a queued
# resource does) and run the same line.
set -euo pipefail
name=$1 zone=$2
shift 2

quoted=$(printf '%q ' "$@")
gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker=all \
    --command="cd ~/rt2 && bash launch/again.sh .venv/bin/python -m rt2.train $quoted"
