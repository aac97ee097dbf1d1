#!/bin/sh
# Builds the crates as they would be published, into OUTDIR: jobwire-proto and jobwire, as .crate archives.
# usage: package.sh OUTDIR
set -eu
out=${1:?usage: package.sh OUTDIR}
mkdir -p "$out"
out=$(cd "$out" && pwd)
root=$(cd "$(dirname "$0")/.." && pwd)
cd "$root"

# The workspace says `publish = false` and joins its crates by path. A copy says what a registry wants: versions.
copy=$(mktemp -d)
trap 'rm -rf "$copy"' EXIT
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
tar -cf - Cargo.lock LICENSE proto sdk-rust | tar -xf - -C "$copy"
cp rustfmt.toml "$copy/"
sed -e 's/^members = .*/members = ["proto", "sdk-rust"]/' -e '/^publish = false$/d' Cargo.toml >"$copy/Cargo.toml"
sed -i '/^publish.workspace/d' "$copy/proto/Cargo.toml" "$copy/sdk-rust/Cargo.toml"
sed -i "s|^jobwire-proto.path = .*|jobwire-proto = { path = \"../proto\", version = \"=$version\" }|" "$copy/sdk-rust/Cargo.toml"
# The server is not among what is published; tests and examples that need it stay in the repository.
sed -i '/^jobwire-server/d; /^jobwire = { path = "."/d' "$copy/sdk-rust/Cargo.toml"
cp LICENSE "$copy/proto/"
cp LICENSE "$copy/sdk-rust/"

cd "$copy"
export CARGO_TARGET_DIR="$copy/target"
cargo package -q --offline --no-verify --allow-dirty -p jobwire-proto -p jobwire
cp "$copy"/target/package/*.crate "$out/"
ls "$out"/jobwire-proto-"$version".crate "$out"/jobwire-"$version".crate
