#!/usr/bin/env bash
# Installs what the named peers need, pinned, into .tools/peers: setup.sh celery bullmq
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
tools=$(cd "$here/../../.." && pwd)/.tools/peers
mkdir -p "$tools"

python() {
  [ "$tools/python.done" -nt "$here/requirements.txt" ] && return
  python3 -m venv "$tools/venv"
  "$tools/venv/bin/python" -m pip install -q --disable-pip-version-check -r "$here/requirements.txt"
  touch "$tools/python.done"
}

node() {
  [ "$tools/node.done" -nt "$here/bullmq/package.json" ] && return
  cp "$here/bullmq/package.json" "$tools/package.json"
  (cd "$tools" && npm install --no-audit --no-fund --no-package-lock --loglevel=error > /dev/null)
  touch "$tools/node.done"
}

for peer in "$@"; do
  case $peer in
    celery | taskiq) python ;;
    bullmq) node ;;
    *) echo "setup.sh: unknown peer $peer" >&2; exit 2 ;;
  esac
done
