#!/bin/sh
# Regenerates the Python code of the contract. Run from the repository root:
#   sdk-python/gen.sh PYTHON OUTPUT_DIR      e.g. sdk-python/gen.sh .tools/venv/bin/python sdk-python/src
# PYTHON must have grpcio-tools 1.62.3: code of that generator runs on protobuf 4, 5, 6 and 7 and on any grpcio from
# 1.62, while code of later ones refuses older libraries. Modules land where their proto path says
# (OUTPUT_DIR/jobwire/v1), so no import has to be rewritten.
set -eu
python=${1:?usage: gen.sh PYTHON OUTPUT_DIR}
out=${2:?usage: gen.sh PYTHON OUTPUT_DIR}
"$python" - <<'PY'
import importlib.metadata as metadata
version = metadata.version("grpcio-tools")
if version != "1.62.3":
    raise SystemExit(f"gen.sh needs grpcio-tools 1.62.3, found {version}")
PY
mkdir -p "$out/jobwire/v1"
rm -f "$out"/jobwire/v1/*_pb2*.py "$out"/jobwire/v1/*_pb2*.pyi
"$python" -m grpc_tools.protoc -I proto \
  --python_out="$out" --pyi_out="$out" --grpc_python_out="$out" proto/jobwire/v1/*.proto
