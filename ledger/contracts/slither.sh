#!/usr/bin/env bash
# Runs slither over src/ and fails where it finds something of medium or high impact that no comment
# in the source answers. It lives in an environment of its own, since it needs another web3 than ours,
# and reads what our own compiler says: no native solc, no forge.
#
#   npm ci && ./slither.sh
set -euo pipefail
cd "$(dirname "$0")"

environment=.slither
if [ ! -x "$environment/bin/slither" ]; then
  python3 -m venv "$environment"
  "$environment/bin/pip" install --quiet slither-analyzer==0.11.6 crytic-compile==0.4.2
fi

# The folder looks like one of Hardhat's, whose build-info is read without Hardhat itself.
project=$(mktemp -d)
trap 'rm -rf "$project"' EXIT
mkdir -p "$project/artifacts/build-info"
touch "$project/hardhat.config.js"
ln -s "$PWD/src" "$project/src"
ln -s "$PWD/node_modules" "$project/node_modules"
node build.mjs --build-info "$project/artifacts/build-info/all.json"

slither=$PWD/$environment/bin/slither
cd "$project"
"$slither" . --hardhat-ignore-compile --npx-disable --filter-paths node_modules \
  --exclude-informational --exclude-optimization --exclude-low --fail-medium "$@"
