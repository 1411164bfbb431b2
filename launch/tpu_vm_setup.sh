#!/usr/bin/env bash
# Copies this commit to every host of a Cloud TPU VM slice and makes its environment:
#   launch/tpu_vm_setup.sh NAME ZONE
# Needs: gcloud with rights on the slice; Python 3.11 or newer on its image.
set -euo pipefail
name=$1 zone=$2
archive=$(mktemp --suffix=.tar.gz)
trap 'rm -f "$archive"' EXIT

git -C "$(dirname "$0")/.." archive --format=tar.gz -o "$archive" HEAD
gcloud compute tpus tpu-vm scp "$archive" "$name:rt2.tar.gz" --zone="$zone" --worker=all
gcloud compute tpus tpu-vm ssh "$name" --zone="$zone" --worker=all --command="
    rm -rf rt2 && mkdir rt2 && tar xzf rt2.tar.gz -C rt2 && cd rt2 &&
    python3 -m venv .venv && .venv/bin/pip install --quiet -e '.[tpu]'"
