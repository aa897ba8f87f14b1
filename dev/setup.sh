#!/bin/sh
# Sets up what one of dev/run.sh's commands needs and this machine lacks: node_modules, and as root Debian's packages. Says nothing when all is there.
# Exit codes: 0 all is there, 2 something is missing that only root can install (the line to run is on stderr), 1 an installation failed (its log is on stderr).
set -eu
cd "$(dirname "$0")/.."

# Of our own Node: it is linked with it, and a small Debian does not have it.
node=libatomic1
edge="$node nginx libnginx-mod-http-js"
case $1 in
  demo) packages=$edge ;;
  test | test-long) packages="$edge libnginx-mod-stream git openssl iproute2 nftables chromium wrk openssh-server openssh-client squid dante-server tinyproxy"
    [ "$1" = test ] || packages="$packages systemd" ;;
  bench) packages="$edge wrk openssh-server openssh-client iproute2" ;;
  check | build) packages=$node ;;
  *) echo "setup: no such command: $1" >&2; exit 2 ;;
esac

log=$(mktemp "${TMPDIR:-/tmp}/postern-setup.XXXXXX")
policy=
trap 'rm -f "$log" $policy' EXIT
trap 'exit 1' HUP INT TERM

# Runs quietly; what it printed is shown only if it failed.
quietly() {
  "$@" >"$log" 2>&1
}

failed() {
  cat "$log" >&2
  echo "setup: $1" >&2
  exit 1
}

is_installed() {
  [ "$(dpkg-query -W -f '${db:Status-Status}' "$1" 2>/dev/null)" = installed ]
}

missing=
if command -v dpkg-query >/dev/null; then
  for package in $packages; do
    is_installed "$package" || missing="$missing $package"
  done
else
  # Not Debian: the programs are asked for by name and whoever runs this knows how to get them.
  case $1 in
    demo) programs=nginx ;;
    test*) programs='nginx git openssl ip nft chromium wrk sshd ssh squid danted tinyproxy' ;;
    bench) programs='nginx wrk sshd ssh ip' ;;
    *) programs= ;;
  esac
  for program in $programs; do
    command -v "$program" >/dev/null || missing="$missing $program"
  done
fi

# Another apt may be at work (a machine that has just started updates itself): five minutes, then give up.
LOCK_WAIT_SECONDS=300
apt() {
  DEBIAN_FRONTEND=noninteractive quietly apt-get -qq -o DPkg::Lock::Timeout="$LOCK_WAIT_SECONDS" -o Acquire::Retries=3 "$@"
}

# The lock of the package lists is not covered by apt's own option.
update_lists() {
  tries=$((LOCK_WAIT_SECONDS / 5))
  until apt update; do
    grep -q 'Could not get lock' "$log" && [ "$tries" -gt 0 ] || failed 'apt-get update failed'
    tries=$((tries - 1))
    sleep 5
  done
}

if [ -n "$missing" ]; then
  if ! command -v apt-get >/dev/null; then
    echo "setup: this needs$missing, and here is no apt-get to install it" >&2
    exit 2
  fi
  if [ "$(id -u)" != 0 ]; then
    echo "setup: this needs Debian's packages. As root: apt-get update && apt-get install --no-install-recommends$missing" >&2
    exit 2
  fi
  echo "setup: installing$missing" >&2
  # The packaged nginx and sshd must not start: they would take ports that are not ours. Debian's own way to say so, taken back at once.
  if [ ! -e /usr/sbin/policy-rc.d ]; then
    policy=/usr/sbin/policy-rc.d
    printf '#!/bin/sh\nexit 101\n' >"$policy"
    chmod 755 "$policy"
  fi
  # The lists may be absent or too old to fetch from; one that serves need not be fetched again.
  # shellcheck disable=SC2086
  if ! apt install --yes --no-install-recommends $missing; then
    update_lists
    apt install --yes --no-install-recommends $missing || failed 'apt-get install failed'
  fi
fi

# The tests run on both ends of what nginx we support; where the newer one can't be had, they are skipped and say so.
case $1 in
  test | test-long)
    code=0
    quietly sh dev/nginx-new.sh || code=$?
    case $code in
      0) ;;
      3) grep '^nginx-new:' "$log" >&2 ;;
      *) failed 'dev/nginx-new.sh failed' ;;
    esac
    ;;
esac

# Written last of all: absent, or older than the lock, means that node_modules is not what the lock says.
complete=node_modules/.set-up
if [ ! -f "$complete" ] || [ -n "$(find package-lock.json -newer "$complete")" ]; then
  command -v npm >/dev/null || { echo 'setup: this needs Node.js 20 or later with npm' >&2; exit 2; }
  echo 'setup: npm ci' >&2
  # npm puts our own Node before the machine's; but its settings lie beside the machine's, and it is about to be replaced.
  PATH=$(printf %s "$PATH" | tr : '\n' | grep -v '/node_modules/' | paste -s -d :)
  quietly npm ci --no-audit --no-fund || failed 'npm ci failed'
  # tap puts its test class together for the plugins of .taprc; left to its first run, that run fails. It compiles, and would leave its cache in the folder for temporary files.
  quietly env NODE_DISABLE_COMPILE_CACHE=1 node_modules/.bin/node node_modules/.bin/tap build || failed 'tap build failed'
  touch "$complete"
fi
