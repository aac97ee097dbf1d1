#!/bin/sh
# Unpacks the crates of package.sh into a clean directory and compiles a program that uses nothing else, by default features
# and as a producer only. CARGO_TARGET_DIR, if set, makes it cheap.
# usage: check-package.sh OUTDIR
set -eu
out=$(cd "${1:?usage: check-package.sh OUTDIR}" && pwd)
root=$(cd "$(dirname "$0")/.." && pwd)
clean=$(mktemp -d)
trap 'rm -rf "$clean"' EXIT

for crate in jobwire-proto jobwire; do
    archive=$(ls "$out/$crate"-[0-9]*.crate)
    mkdir "$clean/$crate"
    tar -xzf "$archive" -C "$clean/$crate" --strip-components 1
done
for file in jobwire/README.md jobwire/LICENSE jobwire/src/lib.rs jobwire-proto/src/lib.rs; do
    [ -f "$clean/$file" ] || { echo "$file is not in its archive" >&2; exit 1; }
done

mkdir -p "$clean/app/src"
cp "$root/Cargo.lock" "$clean/app/"
cp "$root/sdk-rust/examples/hello.rs" "$clean/app/src/main.rs"
cat >"$clean/app/Cargo.toml" <<TOML
[package]
name = "jobwire-package-check"
version = "0.0.0"
edition = "2024"

[dependencies]
jobwire = "*"
serde = { version = "1", features = ["derive"] }
tokio = { version = "1", features = ["macros", "rt-multi-thread"] }

[patch.crates-io]
jobwire = { path = "../jobwire" }
jobwire-proto = { path = "../jobwire-proto" }

[workspace]

TOML
# The same profile, so that what was compiled for the workspace is used again.
sed -n '/^\[profile/,$p' "$root/Cargo.toml" >>"$clean/app/Cargo.toml"
cd "$clean/app"
cargo check -q --offline
cat >src/main.rs <<RUST
fn main() {
    let client = jobwire::Client::connect("jobwire://127.0.0.1:7420").expect("a client");
    let _ = client.enqueue_raw("hello", "Ada");
}
RUST
sed -i 's/^jobwire = "\*"/jobwire = { version = "*", default-features = false, features = ["client"] }/' Cargo.toml
cargo check -q --offline
echo "the packaged crates compile in a clean directory"
