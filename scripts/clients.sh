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

# newer FOLDER PACKAGE...: fetches packages of Debian 13 into FOLDER, with apt lists of our own and from the mirror that the machine uses for its own
# release. Nothing is installed into the machine, and its apt is left as it is.
newer() {
  local folder=$1 apt=$CLIENTS/debian codename
  shift
  command -v apt-get >/dev/null 2>&1 || { echo "this is no Debian system" >&2; return 1; }
  codename=$(. /etc/os-release && echo "${VERSION_CODENAME:-}")
  local options=(-qq -o "Dir::Etc::sourcelist=/dev/null" -o "Dir::Etc::sourceparts=$apt/sources" -o "Dir::State::lists=$apt/lists"
    -o "Dir::Cache=$apt/cache" -o "Dir::State::status=$apt/status" -o "APT::Sandbox::User=$(id -un)" -o "Acquire::Languages=none"
    -o "Acquire::IndexTargets::deb::DEP-11::DefaultEnabled=false" -o "Acquire::IndexTargets::deb::Contents-deb::DefaultEnabled=false")
  if [ ! -e "$apt/complete" ]; then
    rm -rf "$apt"
    mkdir -p "$apt/sources" "$apt/lists/partial" "$apt/cache/archives/partial"
    : > "$apt/status"
    local file
    for file in /etc/apt/sources.list.d/*.sources; do
      [ -e "$file" ] || continue
      awk -v codename="$codename" 'BEGIN { RS = ""; FS = "\n" } {
        ours = 0
        for (i = 1; i <= NF; i++) if ($i ~ "^Suites:" && ($i " ") ~ "[ :]" codename " ") { $i = "Suites: trixie"; ours = 1 }
        if (ours) { for (i = 1; i <= NF; i++) print $i; print "" } }' "$file" > "$apt/sources/$(basename "$file")"
    done
    for file in /etc/apt/sources.list /etc/apt/sources.list.d/*.list; do
      [ -e "$file" ] || continue
      sed -n "s/^\(deb .*[^ ]\) $codename \(.*main.*\)/\1 trixie \2/p" "$file" > "$apt/sources/$(basename "$file")"
    done
    find "$apt/sources" -empty -type f -delete
    apt-get "${options[@]}" update && touch "$apt/complete" || return 1
  fi
  mkdir -p "$folder" && (cd "$folder" && apt-get "${options[@]}" download "$@")
}

# unpack DEB FOLDER TAR-ARGUMENT...: files of a package.
unpack() {
  local deb=$1 folder=$2
  shift 2
  dpkg-deb --fsys-tarfile "$deb" | tar -x -C "$folder" "$@"
}

# AWS CLI 2: Debian 13's package, without its examples and with the services that tests call or that it cannot start without.
install_awscli2() {
  local venv=$CLIENTS/awscli2 work=$CLIENTS/awscli2.new mark site data=./usr/lib/python3/dist-packages/awscli/botocore/data
  mark=$({ cat scripts/requirements-awscli2.txt; declare -f install_awscli2; } | sha256sum)
  [ "$(cat "$venv/complete" 2>/dev/null)" = "$mark" ] && return 0
  rm -rf "$work" "$venv"
  newer "$work" awscli && python3 -m venv "$venv" &&
    "$venv/bin/python" -m pip install --quiet --disable-pip-version-check --only-binary :all: -r scripts/requirements-awscli2.txt &&
    site=$("$venv/bin/python" -c 'import sysconfig; print(sysconfig.get_path("purelib"))') &&
    unpack "$work"/awscli_*.deb "$site" --strip-components=5 --wildcards --exclude='*/awscli/examples' --exclude='*/awscli/topics' \
      --exclude='*/awscli/data/ac.index' --exclude='*/botocore/data/[a-z]*/*' ./usr/lib/python3/dist-packages/awscli &&
    unpack "$work"/awscli_*.deb "$site" --strip-components=5 "$data"/{codedeploy,config,eks,eks-auth,iam,opsworkscm,s3,sso,sso-oidc,sts} &&
    find "$site/awscli/botocore/data" -type d -empty -delete &&
    printf '#!%s\nimport sys\nfrom awscli.clidriver import main\nsys.exit(main())\n' "$venv/bin/python" > "$venv/bin/aws" &&
    chmod 755 "$venv/bin/aws" && "$venv/bin/aws" configure list >/dev/null && echo "$mark" > "$venv/complete" || return 1
  rm -rf "$work"
}

# Programs of scripts/go with Debian 13's AWS SDKs for Go and its Go; only the programs are kept.
install_go_clients() {
  local go=$CLIENTS/go work=$CLIENTS/go.new mark source=./usr/share/gocode/src/github.com/aws toolchain=1.24
  mark=$({ cat scripts/go/*/main.go; declare -f install_go_clients; } | sha256sum)
  [ "$(cat "$go/complete" 2>/dev/null)" = "$mark" ] && return 0
  rm -rf "$work" "$go"
  newer "$work" golang-$toolchain-go golang-$toolchain-src golang-github-aws-aws-sdk-go-dev golang-github-aws-aws-sdk-go-v2-dev \
    golang-github-aws-smithy-go-dev golang-github-jmespath-go-jmespath-dev && mkdir -p "$work/root" "$go/bin" &&
    unpack "$work"/golang-$toolchain-go_*.deb "$work/root" &&
    unpack "$work"/golang-$toolchain-src_*.deb "$work/root" --exclude='*/testdata' --exclude="./usr/share/go-$toolchain/src/cmd" "./usr/share/go-$toolchain/src" &&
    unpack "$work"/golang-github-aws-aws-sdk-go-dev_*.deb "$work/root" "$source"/aws-sdk-go/{aws,internal,private,service/sso,service/ssooidc,service/sts} &&
    unpack "$work"/golang-github-aws-aws-sdk-go-v2-dev_*.deb "$work/root" \
      "$source"/aws-sdk-go-v2/{aws,config,credentials,feature/ec2,internal,service/internal,service/sso,service/ssooidc,service/sts} &&
    unpack "$work"/golang-github-aws-smithy-go-dev_*.deb "$work/root" && unpack "$work"/golang-github-jmespath-go-jmespath-dev_*.deb "$work/root" &&
    cp -r scripts/go "$work/root/usr/share/gocode/src/clients" &&
    env GO111MODULE=off GOPATH="$work/root/usr/share/gocode" GOCACHE="$work/cache" GOTOOLCHAIN=local GOFLAGS= GOROOT= CGO_ENABLED=0 \
      "$work/root/usr/lib/go-$toolchain/bin/go" build -trimpath -ldflags '-s -w' -o "$go/bin/" clients/aws-sdk-go-v1 clients/aws-sdk-go-v2 &&
    echo "$mark" > "$go/complete" || return 1
  rm -rf "$work"
}

# What is newer than Debian 12. A machine that cannot have it goes without: the tests say what they skip.
install_newer_clients() {
  install_awscli2 || { rm -rf "$CLIENTS/awscli2"; echo "note: AWS CLI 2 could not be installed; tests that use it skip it" >&2; }
  install_go_clients || { rm -rf "$CLIENTS/go"; echo "note: the AWS SDKs for Go could not be installed; tests that use them skip them" >&2; }
  rm -rf "$CLIENTS/awscli2.new" "$CLIENTS/go.new" "$CLIENTS/debian"
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
  install_newer_clients
}
