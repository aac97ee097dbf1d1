#!/bin/sh
# Builds the wheel and the sdist into OUTDIR, with the tools of `make setup`, and prints their paths.
# usage: package.sh OUTDIR
set -eu
out=${1:?usage: package.sh OUTDIR}
mkdir -p "$out"
out=$(cd "$out" && pwd)
here=$(cd "$(dirname "$0")" && pwd)
python=$here/../.tools/venv/bin/python
[ -x "$python" ] || { echo "package.sh: run make setup first" >&2; exit 1; }
"$python" -m build --no-isolation --outdir "$out" "$here" >"$out/build.log" 2>&1 || { cat "$out/build.log" >&2; exit 1; }
rm "$out/build.log"
ls "$out"/jobwire-*.whl "$out"/jobwire-*.tar.gz
