#!/bin/sh
# Runs one of the repository's commands from a fresh clone: sets up what it needs, then does it with the repository's own Node.
# usage: sh dev/run.sh demo|test|test-long|check|bench|build [what the command takes]
set -eu
cd "$(dirname "$0")/.."

usage() {
  echo 'usage: sh dev/run.sh demo|test|test-long|check|bench|build [arguments]' >&2
  exit 2
}

[ $# -gt 0 ] || usage
command=$1
shift
case $command in demo | test | test-long | check | bench | build) ;; *) usage ;; esac

sh dev/setup.sh "$command"
PATH=$PWD/node_modules/.bin:$PATH
export PATH

case $command in
  demo) exec node dev/demo.ts "$@" ;;
  test) exec node dev/test.ts "$@" ;;
  # One at a time: they measure memory and time.
  test-long) [ $# -gt 0 ] || set -- $(find test -name '*.long.test.ts' | sort)
    exec node dev/test.ts --timeout=900 --jobs=1 "$@" ;;
  check)
    tsc -p tsconfig.json
    tsc -p njs/tsconfig.json --noEmit
    exec oxlint --type-aware --deny-warnings "$@" ;;
  bench) exec node bench/main.ts "$@" ;;
  build) exec node dev/build.ts ;;
esac
