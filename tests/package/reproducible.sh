#!/usr/bin/env bash
# The same commit gives the same bytes, executable included: builds the packages of HEAD here and in a clone
# elsewhere, with another home of cargo's. Two release builds: some minutes, so not part of build.sh.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
[[ -z $(git status --porcelain) ]] || { echo 'commit first: the clone has what is committed' >&2; exit 1; }
packages=${CARGO_TARGET_DIR:-target}/packages
git clone --quiet . "$work/a/clone/elsewhere"
packaging/build.sh all
mkdir -p "$work/cargo/registry"
cp -r "${CARGO_HOME:-$HOME/.cargo}"/registry/{cache,index} "$work/cargo/registry/"
CARGO_HOME=$work/cargo CARGO_TARGET_DIR=$work/built "$work/a/clone/elsewhere/packaging/build.sh" all
for file in "$work"/built/packages/*; do
    cmp "$file" "$packages/${file##*/}"
    sha256sum "$file"
done
echo "tests/package/reproducible.sh: passed after $SECONDS s"
