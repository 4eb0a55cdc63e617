#!/usr/bin/env bash
# The packages themselves, without booting anything: contents, same bytes, maintainer scripts, pages,
# completions, units. tests/package/build.sh [EXECUTABLE]; without one it builds
# the release file.
#
# As root. What is installed is installed into an overlay of this machine's own files in a mount
# namespace, which is gone afterwards.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/../.."
export LC_ALL=C.UTF-8 PATH=$PATH:/usr/local/sbin:/usr/sbin:/sbin:${CARGO_HOME:-$HOME/.cargo}/bin

fail() { printf 'tests/package/build.sh: FAILED: %s\n' "$*" >&2; exit 1; }
step() { printf '== %s (after %s s)\n' "$*" "$SECONDS"; }
# contains WHAT TEXT PATTERN
contains() { grep -Eq -e "$3" <<<"$2" || fail "$1: nothing like '$3' in:"$'\n'"$2"; }
lacks() { ! grep -Eq -e "$3" <<<"$2" || fail "$1: '$3' is in:"$'\n'"$2"; }

[[ $(id -u) == 0 ]] || fail 'run it as root: it installs packages, in a mount namespace of its own'
tests/prerequisites.sh redis-sentinel dpkg-deb lintian rpmbuild rpm man mandoc fish zsh systemd-analyze shellcheck unshare cargo git
# Bash's completions are loaded as on a real machine.
[[ -r /usr/share/bash-completion/bash_completion ]] ||
    DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends bash-completion </dev/null >&2

build=$(realpath -m "${CARGO_TARGET_DIR:-target}")
executable=${1-}
executable=$(realpath -e "${executable:-$(packaging/build.sh executable)}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
packages=$build/packages
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)
machine=$(uname -m)
deb=$packages/vipswitch_${version}_$(dpkg --print-architecture).deb
rpm=$packages/vipswitch-$version-1.$machine.rpm
tar=$packages/vipswitch-$version-$machine.tar.gz

step 'built twice, elsewhere and under another umask and locale: the same bytes'
rm -rf "$packages"
export SOURCE_DATE_EPOCH=1767225600
packaging/build.sh all --executable "$executable" >/dev/null
mv "$packages" "$work/first"
elsewhere=$work/elsewhere/clone
mkdir -p "$elsewhere"
git ls-files -z --cached --others --exclude-standard | xargs -0 cp --parents -t "$elsewhere"
(umask 077 && LC_ALL=C TZ=Asia/Tokyo CARGO_TARGET_DIR=$build "$elsewhere/packaging/build.sh" all --executable "$executable" >/dev/null)
for file in "$deb" "$rpm" "$tar"; do
    cmp "$file" "$work/first/${file##*/}" || fail "$file is not reproducible"
done

step 'contents'
{
    echo 'deb'
    dpkg-deb --contents "$deb" | awk '$1 !~ /^d/ { print $1, $2, $6 }'
    echo 'rpm'
    rpm -qp --queryformat '[%{FILEMODES:perms} %{FILEUSERNAME}/%{FILEGROUPNAME} %{FILENAMES}\n]' "$rpm"
    echo 'tar'
    tar tvzf "$tar" | awk '$1 !~ /^d/ { print $1, $2, $6 }'
} | sed "s/-$version-$machine//" >"$work/contents"
diff -u tests/package/contents "$work/contents" || fail 'the contents are not those of tests/package/contents'
contains 'conffiles' "$(dpkg-deb --info "$deb" conffiles)" '^/etc/vipswitch.toml$'
contains 'conffiles' "$(dpkg-deb --info "$deb" conffiles)" '^/etc/network/if-up.d/vipswitch$'
contains 'configuration files of the rpm' "$(rpm -qp --configfiles "$rpm")" '^/etc/vipswitch.toml$'

step 'what cannot be built is said'
said=$(packaging/build.sh deb --executable README.md 2>&1) && fail 'README.md made a package'
contains 'an executable that is none' "$said" 'neither x86_64 nor aarch64'
said=$(packaging/build.sh deb --target sparc64-unknown-linux-gnu 2>&1) && fail 'sparc64 made a package'
contains 'a target that is not installed' "$said" 'rustup target add sparc64-unknown-linux-gnu'
mkdir "$work/bin"
ln -s "$(command -v bash)" "$(command -v dirname)" "$work/bin/"
said=$(PATH=$work/bin packaging/build.sh deb 2>&1) && fail 'a package without cargo'
contains 'a missing tool' "$said" 'cargo is missing. Install the package'

step 'lintian'
lintian=$(lintian --allow-root --suppress-tags unstripped-binary-or-object --fail-on error,warning "$deb" 2>&1) ||
    fail "lintian says: $lintian"

step 'shell scripts'
shellcheck -x packaging/build.sh packaging/third-party packaging/install.sh packaging/scripts/common.sh packaging/deb/p* packaging/network/* \
    tests/package/*.sh tests/*.sh examples/*.sh .ci/*
dpkg-deb --control "$deb" "$work/control"
rpm -qp --scripts --triggers "$rpm" | grep -v 'scriptlet\|^trigger' >"$work/scriptlets"
mkdir "$work/tar"
tar xzf "$tar" --strip-components 1 -C "$work/tar"
for script in "$work"/control/{postinst,prerm,postrm} "$work/tar/install.sh" "$work/scriptlets"; do
    sh -n "$script" || fail "$script is no shell script"
    lacks "$script" "$(cat "$script")" '^#COMMON#'
done

step 'man pages'
dpkg-deb --extract "$deb" "$work/deb"
for page in man8/vipswitch.8 man5/vipswitch.toml.5; do
    file=$work/deb/usr/share/man/$page
    gunzip --keep "$file.gz"
    warnings=$(MANROFFSEQ='' MANWIDTH=80 man --warnings -E UTF-8 -l -Tutf8 -Z "$file" 2>&1 >/dev/null)
    [[ -z $warnings ]] || fail "man warns of $page: $warnings"
    mandoc -T lint -W warning "$file" >"$work/lint" || fail "mandoc warns of $page: $(cat "$work/lint")"
done

step 'completions'
bash_says=$(bash --norc -c '
    . /usr/share/bash-completion/bash_completion
    . "$1"
    COMP_WORDS=(vipswitch st) COMP_CWORD=1 COMP_LINE="vipswitch st" COMP_POINT=12
    _vipswitch vipswitch st vipswitch
    printf "%s\n" "${COMPREPLY[@]}"' bash "$work/deb/usr/share/bash-completion/completions/vipswitch")
contains 'bash' "$bash_says" '^status$'
fish_says=$(HOME=$work fish --no-config -c "source $work/deb/usr/share/fish/vendor_completions.d/vipswitch.fish; complete -C 'vipswitch st'")
contains 'fish' "$fish_says" '^status'
zsh_says=$(HOME=$work zsh -fc "
    fpath=($work/deb/usr/share/zsh/vendor-completions \$fpath)
    autoload -Uz compinit && compinit -u -d $work/zcompdump
    print -r -- \$_comps[vipswitch]; autoload +X _vipswitch && functions _vipswitch" 2>&1)
contains 'zsh' "$zsh_says" '^_vipswitch$'
contains 'zsh' "$zsh_says" 'dry-run'

tests/package/units.sh "$work/deb"

step 'installed, upgraded, removed, purged, by dpkg, rpm and install.sh'
unshare --mount --propagation private tests/package/install.sh "$work" "$deb" "$rpm"

step 'passed'
