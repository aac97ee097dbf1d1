#!/bin/sh
# Generates the TypeScript messages from ../proto. Usage: gen.sh [OUTPUT_DIR], default src/gen beside this script.
# Needs `npm ci` to have run here; uses no network and writes nothing but the output directory.
set -eu
here=$(cd "$(dirname "$0")" && pwd)
out=${1:-"$here/src/gen"}
mkdir -p "$out"
out=$(cd "$out" && pwd)
rm -rf "$out/jobwire"
plugin="$here/node_modules/.bin/protoc-gen-es"
"$here/node_modules/.bin/buf" generate "$here/../proto" --template "{
  \"version\": \"v2\",
  \"plugins\": [{\"local\": \"$plugin\", \"out\": \"$out\", \"opt\": [\"target=ts\", \"import_extension=js\"]}]
}"
