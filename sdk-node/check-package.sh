#!/bin/bash
# Installs a tarball of the package (made by package.sh when none is named) into clean directories and uses it there:
# a producer and a worker against a real server, imported and required, and TypeScript projects that compile.
# JOBWIRE_BIN names the server.
set -euo pipefail
here=$(cd "$(dirname "$0")" && pwd)
: "${JOBWIRE_BIN:?check-package.sh: set it to the server, as in JOBWIRE_BIN=target/debug/jobwire}"
JOBWIRE_BIN=$(realpath "$JOBWIRE_BIN") && export JOBWIRE_BIN
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
tarball=${1:-$("$here/package.sh" "$work/pack")}
tarball=$(realpath "$tarball")
files=$here/tests/package

# project NAME TYPE [DEPENDENCY…]: a clean directory with the package and nothing else, but what is named.
project() {
  mkdir -p "$work/$1"
  cd "$work/$1"
  echo "{ \"name\": \"$1\", \"private\": true, \"type\": \"$2\" }" > package.json
  npm install --no-audit --no-fund --loglevel=error "$tarball" "${@:3}" > npm.log 2>&1 || { cat npm.log >&2; exit 1; }
}

# versions NAME…: as this package is developed with.
versions() {
  for name in "$@"; do
    echo "$name@$(node -p "require('$here/package.json').devDependencies['$name']")"
  done
}

# compile MODULE RESOLUTION FILE…: strict, with the declarations of the package checked too.
compile() {
  "$here/node_modules/.bin/tsc" --noEmit --strict --target es2022 --lib es2023,esnext.disposable --module "$1" \
    --moduleResolution "$2" --typeRoots "$here/node_modules/@types" --types node "${@:3}"
  echo "types: $2, ${!#}"
}

project esm module
cp "$files/roundtrip.mjs" "$files/consumer.ts" .
node roundtrip.mjs
[ -z "$(ls node_modules | grep -E '^(@opentelemetry|@nestjs)$')" ] || { echo "an optional peer was installed" >&2; exit 1; }
compile node16 node16 consumer.ts
compile esnext bundler consumer.ts

project peers module $(versions @opentelemetry/api @nestjs/common @nestjs/core reflect-metadata rxjs)
cp "$files/around.ts" .
node -e 'Promise.all(["jobwire/otel", "jobwire/nest"].map((entry) => (require(entry), import(entry)))).then(() => console.log("peers"))'
# The declarations of others are not ours to check.
compile node16 node16 --experimentalDecorators --skipLibCheck around.ts
compile esnext bundler --experimentalDecorators --skipLibCheck around.ts

project cjs commonjs
cp "$files/roundtrip.cjs" "$files/consumer.ts" .
node roundtrip.cjs
compile node16 node16 consumer.ts
