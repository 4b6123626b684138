#!/usr/bin/env bash
# Puts the peers of bench/attribution into a folder of their own, without what they depend on:
# the product's environment stays as it is, and torchvision (a CUDA build on PyPI that breaks
# transformers beside a CPU torch) stays out.
#   bench/attribution/peers/install.sh [FOLDER]        default .data/bench/peers
set -euo pipefail
cd "$(dirname "$0")/../../.."
folder=${1:-.data/bench/peers}
mkdir -p "$folder"
.venv/bin/python -m pip install --quiet --no-deps --upgrade --target "$folder" \
    kronfluence==1.0.1 einconv==0.1.0 einops==0.8.2 opt-einsum==3.4.0
echo "Installed into $folder: $(ls "$folder" | grep -c dist-info) packages."
