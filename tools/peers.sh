#!/usr/bin/env bash
# Installs the programs of others that the interop tests talk to, into .peers/ of the repository.
# May be run again at any time: what is there already is left alone. Debian packages are only installed as root.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."

peers="$PWD/.peers"
readonly peers
readonly copy_dependencies=org.apache.maven.plugins:maven-dependency-plugin:3.6.1:copy-dependencies

declare -a packages=()

require_command() { # command, Debian package that brings it
  command -v "$1" >/dev/null || packages+=("$2")
}

require_package() {
  dpkg-query --show --showformat='${db:Status-Status}' "$1" 2>/dev/null | grep -qx installed || packages+=("$1")
}

install_packages() {
  require_command java default-jdk-headless
  require_command javac default-jdk-headless
  require_command mvn maven
  require_command go golang
  require_command cc gcc
  require_command ip iproute2
  require_command ssh openssh-client
  require_command /usr/sbin/sshd openssh-server
  [[ -e /usr/include/stdio.h ]] || packages+=(libc6-dev)
  require_package zookeeper-bin
  require_package libzookeeper-mt-dev
  ((${#packages[@]})) || return 0
  if ((EUID != 0)); then
    echo "peers.sh: run as root, or install these packages first: ${packages[*]}" >&2
    exit 1
  fi
  # The tests run an sshd of their own; that the package is there shall not open the machine to anybody.
  if [[ " ${packages[*]} " == *" openssh-server "* && -d /run/systemd/system ]]; then
    systemctl mask ssh.service ssh.socket
  fi
  apt-get -q update
  DEBIAN_FRONTEND=noninteractive apt-get -q install --yes --no-install-recommends "${packages[@]}"
}

install_jars() { # pom, target directory
  local pom="$1" target="$2"
  cmp --silent "$pom" "$target/installed.xml" && return 0
  rm -rf "$target"
  mvn --batch-mode --quiet -Dstyle.color=never --file "$pom" "$copy_dependencies" -DincludeScope=runtime -DoutputDirectory="$target"
  cp "$pom" "$target/installed.xml"
}

install_go_modules() {
  local client=tests/interop/go
  cmp --silent "$client/go.sum" "$peers/go/installed.sum" && return 0
  (cd "$client" && GOFLAGS=-modcacherw GOMODCACHE="$peers/go/mod" go mod download)
  cp "$client/go.sum" "$peers/go/installed.sum"
}

install_packages
mkdir -p "$peers"
install_jars tools/peers/pom.xml "$peers/apache"
install_jars tools/peers/apache-3.8/pom.xml "$peers/apache-3.8"
install_jars tools/peers/curator/pom.xml "$peers/curator"
install_jars tools/peers/kafka/pom.xml "$peers/kafka"
install_go_modules
echo "peers.sh: everything is in $peers"
