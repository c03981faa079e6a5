# Shared by tools/*: what has to be there before a build. Sourced by bash.

top=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

fail() {
    echo "${0##*/}: $*" >&2
    exit 1
}

# What the build links, and where its headers come from.
build_packages=(liburing-dev libc-ares-dev libyaml-dev pkg-config)

# Who stands at the other end in the black-box tests, and what watches them.
peer_packages=(python3 python3-venv
    nginx-full libnginx-mod-stream haproxy dnsmasq prometheus socat curl openssl gnutls-bin ca-certificates
    strace systemd iproute2 nftables util-linux procps libseccomp2 runc golang-github-containers-common)
peers=$top/Tests/Peers
venv=$top/.build/venv

# Installs the Debian packages that are not there yet; leaves apt alone where all are.
need_packages() {
    local missing=() name
    command -v dpkg-query >/dev/null || { echo "not a Debian system; these are needed: $*" >&2; return; }
    for name in "$@"; do
        [ "$(dpkg-query -W -f='${db:Status-Status}' "$name" 2>/dev/null)" = installed ] || missing+=("$name")
    done
    [ ${#missing[@]} -gt 0 ] || return 0
    echo "installing: ${missing[*]}" >&2
    local as_root=()
    if [ "$(id -u)" -ne 0 ]; then
        command -v sudo >/dev/null || fail "not root and no sudo; run: apt-get install ${missing[*]}"
        as_root=(sudo)
    fi
    # nginx, haproxy, dnsmasq and prometheus start at installation otherwise, and hold the ports of the tests.
    (
        policy=/usr/sbin/policy-rc.d
        if [ ! -e $policy ]; then
            trap '"${as_root[@]}" rm -f $policy' EXIT
            printf '#!/bin/sh\nexit 101\n' | "${as_root[@]}" tee $policy >/dev/null
            "${as_root[@]}" chmod 755 $policy
        fi
        "${as_root[@]}" apt-get update -q &&
            "${as_root[@]}" env DEBIAN_FRONTEND=noninteractive \
                apt-get install -q -y --no-install-recommends "${missing[@]}"
    ) >&2 || fail "apt-get could not install ${missing[*]}"
}

need_swift() {
    command -v swift >/dev/null && return
    fail "no Swift compiler. Install Swift 6.3 (https://www.swift.org/install/linux/) and put it in PATH."
}

# SwiftPM leaves an empty directory in the temporary one at every call.
use_own_temporary_directory() {
    export TMPDIR=$top/.build/tmp
    rm -rf "$TMPDIR"
    mkdir -p "$TMPDIR"
}

# The Python of the black-box tests, made anew when what it needs has changed.
make_venv() {
    cmp -s "$peers/requirements.txt" "$venv/requirements.txt" && return
    rm -rf "$venv"
    python3 -m venv "$venv"
    "$venv/bin/pip" install --quiet --disable-pip-version-check -r "$peers/requirements.txt"
    cp "$peers/requirements.txt" "$venv/requirements.txt"
}

# An executable as it is shipped, .build/release/weir unless another is named. Says what it does on standard error only.
build_release() {
    swift build --package-path "$top" -c release --static-swift-stdlib --product "${1:-weir}" \
        --explicit-target-dependency-import-check error >&2
}

check_format() {
    swift format lint --strict --parallel --recursive "$top/Sources" "$top/Tests" "$top/Benchmarks/Load" \
        "$top/Benchmarks/Micro"
}
