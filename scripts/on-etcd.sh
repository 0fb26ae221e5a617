#!/usr/bin/env bash
# Runs the test programs of the directory and of the APIs once more, on a real etcd in the place of the store in memory.
# Usage: scripts/on-etcd.sh LOG [FILTER]      LOG is the output of the `cargo test` that built them
set -euo pipefail
cd "$(dirname "$0")/.."
log=$1 filter=${2:-}

etcd=$(command -v etcd || true)
[ -n "$etcd" ] || etcd=${KUBEBUILDER_ASSETS:-/usr/local/kubebuilder/bin}/etcd
dir=$(mktemp -d)
read -r port peer < <(python3 -c '
import socket
s = [socket.create_server(("127.0.0.1", 0)) for _ in range(2)]
print(*(x.getsockname()[1] for x in s))')
client_url=http://127.0.0.1:$port peer_url=http://127.0.0.1:$peer
"$etcd" --name n0 --data-dir "$dir/data" --listen-client-urls "$client_url" --advertise-client-urls "$client_url" \
  --listen-peer-urls "$peer_url" --initial-advertise-peer-urls "$peer_url" --initial-cluster "n0=$peer_url" \
  --logger zap --log-level error >"$dir/log" 2>&1 &
server=$!
trap 'kill "$server" 2>/dev/null || true; wait "$server" 2>/dev/null || true; rm -rf "$dir"' EXIT
for _ in $(seq 300); do
  curl -fsS "$client_url/health" >/dev/null 2>&1 && break
  kill -0 "$server" 2>/dev/null || { cat "$dir/log" >&2; exit 1; }
  sleep 0.1
done

export COUNTERSIGN_TEST_STORE=etcd://127.0.0.1:$port
found=0
for program in $(grep -oE 'target/debug/deps/(directory|it)-[0-9a-f]+' "$log" | sort -u); do
  names=$("$program" --list)
  if grep -q '^races::' <<< "$names"; then crate=store; elif grep -q '^store_away::' <<< "$names"; then crate=server; else continue; fi
  found=$((found + 1))
  program=$PWD/$program
  # The one test left out stops the clock of its runtime, which connections to a real etcd do not survive.
  (cd "crates/$crate" && "$program" ${filter:+"$filter"} --skip a_rotation_costs_one_fetch_and_an_outage_none)
done
if [ "$found" -ne 2 ]; then
  echo "error: $log names $found of the 2 test programs" >&2
  exit 1
fi
