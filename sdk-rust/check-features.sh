#!/bin/sh
# Compiles the crate with none of its features, with each one alone, with each one missing, and with all; --all tries every
# combination. A warning is an error.
set -eu
cd "$(dirname "$0")"
features="client worker tls otel schema testing"

joined() { echo "$@" | tr ' ' ,; }

without() {
    rest=
    for other in $features; do [ "$other" = "$1" ] || rest="$rest $other"; done
    joined $rest
}

if [ "${1:-}" = --all ]; then
    set -- ""
    for feature in $features reqwest sqlx tokio-postgres; do
        for before in "$@"; do set -- "$@" "$before,$feature"; done
    done
else
    set -- "" "$(joined $features)"
    for feature in $features; do set -- "$@" "$feature" "$(without "$feature")"; done
fi
for chosen in "$@"; do
    said=$(cargo check -q --lib --no-default-features --features "${chosen#,}" 2>&1) && [ -z "$said" ] || {
        echo "features \"${chosen#,}\":" "$said" >&2
        exit 1
    }
done
echo "$# sets of features compile"
