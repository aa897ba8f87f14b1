#!/bin/sh
# Puts the newest nginx and njs that Debian has (sid) into .nginx-new/, for the tests that run on both ends of what we support.
#
# Nothing is installed: apt resolves and downloads with a state of its own, checks the signatures, and the packages (some 10 MB) are only unpacked.
# The binary is run by its own loader with its own libraries (test/harness/nginx.ts): neither chroot nor root, and the machine's C library stays out of it.
#
# Prints the versions. Exit codes: 0 it is there (also one that is old, where no newer one can be had), 3 it can't be had on this machine (the reason on stderr), 1 anything else.
# POSTERN_NGINX_NEW_DAYS (default 30): how old what is there may be before it is fetched again.
set -eu

repository=$(cd "$(dirname "$0")/.." && pwd)
target=$repository/.nginx-new
days=${POSTERN_NGINX_NEW_DAYS:-30}
keyring=/usr/share/keyrings/debian-archive-keyring.gpg

cannot() {
  echo "nginx-new: $1" >&2
  [ ! -f "$target/version" ] || { echo "nginx-new: what was fetched before stays: $(paste -s -d ' ' "$target/version")" >&2; exit 0; }
  exit 3
}

if [ -f "$target/version" ] && [ -f "$target/ngx_stream_module.so" ] && [ -z "$(find "$target/version" -mtime "+$days")" ]; then
  cat "$target/version"
  exit 0
fi

command -v apt-get >/dev/null && command -v dpkg-deb >/dev/null || cannot 'not a Debian machine: no apt-get or no dpkg-deb'
[ -r "$keyring" ] || cannot "no $keyring (package debian-archive-keyring)"
# The mirror is the one this machine is set up with, whatever it is: the first source that carries a suite of Debian's own.
mirror=$(apt-get indextargets --format '$(REPO_URI) $(ORIGIN) $(LABEL)' 2>/dev/null | awk '$2 == "Debian" && $3 == "Debian" { print $1; exit }')
# Before the machine's first `apt-get update` apt knows no origins, only addresses: Debian's archive is the one that ends in /debian.
[ -n "$mirror" ] || mirror=$(apt-get indextargets --format '$(REPO_URI)' 2>/dev/null | grep '/debian/*$' | head -n 1)
[ -n "$mirror" ] || cannot 'no mirror of Debian among the sources of apt'

work=$(mktemp -d "${TMPDIR:-/tmp}/postern-nginx-new.XXXXXX")
trap 'rm -rf "$work"' EXIT
trap 'exit 1' HUP INT TERM
mkdir -p "$work/etc/none" "$work/state/lists/partial" "$work/cache/archives/partial" "$work/root"
echo "deb [signed-by=$keyring] $mirror sid main" >"$work/etc/sources.list"
# An empty status file: apt takes nothing for installed and so brings every library, the C library too.
: >"$work/status"
# Proxies and the like still come from the machine's own configuration of apt; only its sources, preferences and state are set aside.
sid() {
  apt-get -qq \
    -o Dir::Etc::SourceList="$work/etc/sources.list" -o Dir::Etc::SourceParts="$work/etc/none" \
    -o Dir::Etc::Preferences="$work/etc/none/preferences" -o Dir::Etc::PreferencesParts="$work/etc/none" \
    -o Dir::State="$work/state" -o Dir::State::status="$work/status" -o Dir::Cache="$work/cache" \
    -o APT::Sandbox::User="$(id -un)" -o APT::Install-Recommends=false -o Acquire::Languages=none -o Acquire::Retries=1 -o Acquire::http::Timeout=15 \
    "$@" >&2
}
sid update || cannot 'the list of packages of sid could not be fetched'
sid --yes --download-only install nginx libnginx-mod-http-js libnginx-mod-stream || cannot 'the packages of sid could not be fetched'
for package in "$work"/cache/archives/*.deb; do
  dpkg-deb --extract "$package" "$work/root"
done

loader=$(find -L "$work/root" -name 'ld-linux*.so.*' -type f | head -n 1)
nginx=$(find "$work/root" -path '*/sbin/nginx' -type f | head -n 1)
module=$(find "$work/root" -name ngx_http_js_module.so -type f | head -n 1)
stream=$(find "$work/root" -name ngx_stream_module.so -type f | head -n 1)
libraries=$(dirname "$(find "$work/root" -name 'libc.so.6' | head -n 1)")
[ -n "$loader" ] && [ -n "$nginx" ] && [ -n "$module" ] && [ -n "$stream" ] || cannot 'the packages of sid hold no nginx, no njs, no stream or no loader'
# One flat folder with the names the harness knows, whatever Debian calls its folders on this architecture.
mkdir "$work/flat"
cp -L "$loader" "$work/flat/ld.so"
cp -L "$nginx" "$module" "$stream" "$work/flat/"
mkdir "$work/flat/lib"
for library in "$libraries"/*.so.*; do
  cp -L "$library" "$work/flat/lib/"
done
"$work/flat/ld.so" --library-path "$work/flat/lib" "$work/flat/nginx" -v 2>&1 | sed 's/^nginx version: nginx./nginx /' >"$work/flat/version.part" ||
  cannot 'the nginx of sid does not run on this machine'
for package in "$work"/cache/archives/libnginx-mod-http-js_*.deb; do
  echo "njs $(dpkg-deb --field "$package" Version | sed 's/-[^-]*$//')" >>"$work/flat/version.part"
done
mv "$work/flat/version.part" "$work/flat/version"
rm -rf "$target"
cp -R "$work/flat" "$target.part" && mv "$target.part" "$target"
cat "$target/version"
