#!/usr/bin/env bash
# Sees to it that there is a redis-server of 7.0 or newer, and that it runs only when a test starts it.
set -euo pipefail
oldest=7

# Where the tests look for it: testkit/redis/src/redis_server.rs.
program=${REDIS_SERVER:-$(PATH="$PATH:$(cd "$(dirname "$0")/.." && pwd)/.tools/bin" command -v redis-server || true)}

if [ -z "$program" ]; then
  if ! command -v apt-get > /dev/null; then
    echo "redis-server is missing and there is no apt-get: install Redis $oldest.0 or newer (or Valkey), with redis-server on the" \
      "PATH or REDIS_SERVER set to its path" >&2
    exit 1
  fi
  sudo=
  if [ "$(id -u)" != 0 ]; then
    command -v sudo > /dev/null || { echo "redis-server is missing: as root, apt-get install redis-server" >&2; exit 1; }
    sudo=sudo
  fi
  # RUNLEVEL: nothing is started in single-user mode.
  install() {
    $sudo env DEBIAN_FRONTEND=noninteractive RUNLEVEL=1 apt-get install -y -qq --no-install-recommends redis-server
  }
  install > /dev/null || { $sudo apt-get update -qq && install > /dev/null; }
  # The package means to run a service all the same; tests want none.
  if [ -d /run/systemd/system ]; then
    $sudo systemctl disable --now --quiet redis-server.service || true
  elif [ -x /etc/init.d/redis-server ]; then
    $sudo /etc/init.d/redis-server stop > /dev/null || true
  fi
  program=$(command -v redis-server)
fi

version=$("$program" --version | sed -n 's/.*v=\([0-9]*\)\..*/\1/p')
if [ "${version:-0}" -lt "$oldest" ]; then
  echo "$program is too old: $("$program" --version); Redis $oldest.0 or newer is needed" >&2
  exit 1
fi
