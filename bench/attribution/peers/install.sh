#!/usr/bin/env bash
# Puts the peers of bench/attribution into a folder of their own, without what they depend on:
# the product's environment stays as it is, and torchvision and torchaudio (CUDA builds on PyPI that
# break transformers beside a CPU torch), bitsandbytes and pretty_midi stay out. What stands below
# is what they import on the way that the benchmark goes.
#   bench/attribution/peers/install.sh [FOLDER]        default .data/bench/peers
set -euo pipefail
cd "$(dirname "$0")/../../.."
folder=${1:-.data/bench/peers}
mkdir -p "$folder"
.venv/bin/python -m pip install --quiet --no-deps --upgrade --target "$folder" \
    kronfluence==1.0.1 einconv==0.1.0 einops==0.8.2 opt-einsum==3.4.0 \
    traker==0.3.2 dattri==0.3.0 \
    bergson==2.5.1 datasets==5.2.0 pandas==3.1.1 dill==0.4.1 multiprocess==0.70.19 xxhash==4.1.0 \
    natsort==8.4.0 jaxtyping==0.3.11 wadler-lindig==0.1.8 ml_dtypes==0.6.0 petname==2.9 \
    simple-parsing==0.1.9 docstring-parser==0.18.0 torchopt==0.7.3 optree==0.20.0 scipy==1.17.1
echo "Installed into $folder: $(ls "$folder" | grep -c dist-info) packages."
