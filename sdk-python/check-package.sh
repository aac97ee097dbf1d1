#!/bin/bash
# Installs the wheel of package.sh into clean environments, from the oldest libraries that it allows to the newest, and
# runs a producer and a worker against a real server in each, with warnings as errors. JOBWIRE_BIN names the server.
# usage: check-package.sh OUTDIR
set -euo pipefail
out=$(cd "${1:?usage: check-package.sh OUTDIR}" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
: "${JOBWIRE_BIN:?check-package.sh: set it to the server, as in JOBWIRE_BIN=target/debug/jobwire}"
JOBWIRE_BIN=$(realpath "$JOBWIRE_BIN") && export JOBWIRE_BIN
pip="$here/../.tools/venv/bin/python -m pip --disable-pip-version-check -q"
wheel=$(ls "$out"/jobwire-*.whl)
clean=$(mktemp -d)
trap 'rm -rf "$clean"' EXIT

# try NAME REQUIREMENT…: what a user gets who has these.
try() {
  python3 -m venv --without-pip "$clean/$1"
  $pip --python "$clean/$1/bin/python" install "$wheel" "${@:2}"
  (cd "$clean" && "$clean/$1/bin/python" -I -W error "$here/tests/package_trip.py")
}

pids=()  # mostly waiting for downloads
try oldest 'grpcio==1.62.*' 'protobuf==4.25.*' & pids+=($!)
try newest 'grpcio' 'protobuf==7.*' & pids+=($!)
try five 'grpcio' 'protobuf==5.*' & pids+=($!)
try six 'grpcio' 'protobuf==6.*' & pids+=($!)
for pid in "${pids[@]}"; do wait "$pid"; done

# The sdist builds the same wheel.
mkdir "$clean/sdist"
tar -xzf "$out"/jobwire-*.tar.gz -C "$clean/sdist" --strip-components 1
"$here/../.tools/venv/bin/python" -m build -w --no-isolation --outdir "$clean/wheel" "$clean/sdist" >"$clean/log" 2>&1 \
  || { cat "$clean/log" >&2; exit 1; }
diff <(unzip -Z1 "$wheel" | sort) <(unzip -Z1 "$clean"/wheel/*.whl | sort)
