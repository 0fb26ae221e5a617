# Real clients for tests and demo, installed beside the build. Sourced, not run.
# Sets CLIENTS to their folder; install_clients makes what is missing.
CLIENTS=$PWD/target/clients

debian() { # debian COMMAND PACKAGE: install PACKAGE unless COMMAND exists
  command -v "$1" >/dev/null 2>&1 && return 0
  local sudo=""
  [ "$(id -u)" -eq 0 ] || sudo="sudo"
  command -v apt-get >/dev/null 2>&1 || { echo "error: \`$1\` is missing and this is no Debian system; install it and try again" >&2; return 1; }
  [ -n "${APT_UPDATED:-}" ] || { $sudo apt-get update -qq && APT_UPDATED=1; }
  DEBIAN_FRONTEND=noninteractive $sudo apt-get install -y -qq "$2" >/dev/null
}

install_python_clients() {
  [ -x "$CLIENTS/python/bin/aws" ] && [ -e "$CLIENTS/python/complete" ] && return 0
  debian python3 python3
  mkdir -p "$CLIENTS"
  if ! python3 -m venv "$CLIENTS/python" >/dev/null 2>&1; then
    rm -rf "$CLIENTS/python"
    debian no-such-command-python3-venv python3-venv
    python3 -m venv "$CLIENTS/python"
  fi
  "$CLIENTS/python/bin/python" -m pip install --quiet --disable-pip-version-check -r scripts/requirements.txt
  # Its copies of AWS's managed policies are test data; nothing of it runs, so it needs none of its dependencies.
  "$CLIENTS/python/bin/python" -m pip install --quiet --disable-pip-version-check --no-deps "moto==5.2.5"
  touch "$CLIENTS/python/complete"
}

install_javascript_clients() {
  [ -d "$CLIENTS/javascript/node_modules/@aws-sdk/client-sts" ] && return 0
  debian node nodejs
  debian npm npm
  mkdir -p "$CLIENTS/javascript"
  cp scripts/package.json "$CLIENTS/javascript/"
  npm install --prefix "$CLIENTS/javascript" --silent --no-audit --no-fund >/dev/null
}

# What the feature `etcd` needs: the protocol compiler with its include files to build, and a server to test against.
install_etcd() {
  debian protoc protobuf-compiler
  [ -e /usr/include/google/protobuf/descriptor.proto ] || debian no-such-command-libprotobuf-dev libprotobuf-dev
  debian etcd etcd-server
}

install_clients() {
  debian cc gcc
  debian curl curl
  debian ip iproute2
  debian nft nftables
  debian iptables iptables
  install_python_clients
  install_javascript_clients
}
