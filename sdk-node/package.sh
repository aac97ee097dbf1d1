#!/bin/sh
# Builds the package and packs it: package.sh OUTDIR writes OUTDIR/jobwire-VERSION.tgz and prints its path.
set -eu
out=${1:?usage: package.sh OUTDIR}
mkdir -p "$out"
out=$(cd "$out" && pwd)
cd "$(dirname "$0")"
[ -x node_modules/.bin/tsdown ] || { echo "package.sh: run make setup first" >&2; exit 1; }
npm run --silent build >&2
echo "$out/$(npm pack --silent --ignore-scripts --pack-destination "$out")"
