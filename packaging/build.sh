#!/usr/bin/env bash
# Builds packages into target/packages: packaging/build.sh deb|rpm|tar|all [--executable FILE] [--target TRIPLE]
# or only what they hold: packaging/build.sh executable [--target TRIPLE]
#
# The same commit gives the same bytes wherever it lies: its date is every file's date. --executable
# takes one that is built already, for whichever architecture it is.
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")/.."
umask 022
export LC_ALL=C TZ=UTC

fail() { printf 'packaging/build.sh: %s\n' "$*" >&2; exit 1; }
usage() { fail 'usage: packaging/build.sh executable|deb|rpm|tar|all [--executable FILE] [--target TRIPLE]'; }

# need COMMAND PACKAGE: of Debian's packages, other distributions' have the same names here.
need() { command -v "$1" >/dev/null || fail "$1 is missing. Install the package $2."; }

formats=${1-}
shift || usage
case $formats in
executable | deb | rpm | tar) ;;
all) formats='deb rpm tar' ;;
*) usage ;;
esac
executable='' target=''
while (($#)); do
    case $1 in
    --executable) executable=$(realpath -e "${2?}") ;;
    --target) target=${2?} ;;
    *) usage ;;
    esac
    shift 2
done

need cargo 'rustup (https://rustup.rs)'
host=$(rustc -vV | sed -n 's/^host: //p')
target=${target:-$host}
build=$(realpath -m "${CARGO_TARGET_DIR:-target}")
packages=$build/packages
version=$(sed -n 's/^version = "\(.*\)"/\1/p' Cargo.toml | head -1)

build_executable() {
    [[ $target == "$host" || -d $(rustc --print sysroot)/lib/rustlib/$target ]] ||
        fail "the Rust target $target is not installed. Install it: rustup target add $target"
    if [[ $target == aarch64-*-gnu && $target != "$host" ]]; then
        need aarch64-linux-gnu-gcc 'gcc-aarch64-linux-gnu'
        export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
    fi
    # A panic aborts in this profile: no tables of how to unwind Rust's own functions (600 KB). Equal sequences of
    # instructions once (LLVM's machine outliner, 200 KB): the time goes into system calls.
    # --config adds to the flags in .cargo/config.toml; RUSTFLAGS would take their place.
    unset RUSTFLAGS CARGO_ENCODED_RUSTFLAGS
    local home=${CARGO_HOME:-$HOME/.cargo}
    echo 'packaging/build.sh: building the executable. The last crate, vipswitch itself, takes the longest.' >&2
    cargo build --release --locked --target "$target" --config \
        "target.$target.rustflags=['--remap-path-prefix=$PWD=/usr/src/vipswitch', '--remap-path-prefix=$home=/usr/src/cargo', '-Cforce-unwind-tables=no', '-Cllvm-args=-enable-machine-outliner=always']"
    executable=$build/$target/release/vipswitch
}

[[ -n $executable ]] || build_executable
[[ $formats != executable ]] || { echo "$executable"; exit; }
[[ -n ${SOURCE_DATE_EPOCH-} ]] || need git git
SOURCE_DATE_EPOCH=${SOURCE_DATE_EPOCH:-$(git log -1 --format=%ct)}
export SOURCE_DATE_EPOCH
# e_machine of the ELF header.
case $(od -An -tx1 -j18 -N2 "$executable") in
' 3e 00') machine=x86_64 deb_architecture=amd64 ;;
' b7 00') machine=aarch64 deb_architecture=arm64 ;;
*) fail "$executable is for neither x86_64 nor aarch64" ;;
esac

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
mkdir -p "$packages"

cp -r packaging/documents/generated "$work/documents"
sed -i -e "s/@DATE@/$(date -d "@$SOURCE_DATE_EPOCH" +%F)/" -e "s/@VERSION@/$version/" "$work"/documents/*.[58]
packaging/third-party "$machine-unknown-linux-gnu" >"$work/THIRD-PARTY"

put() { install -D -m "$1" "$2" "$3"; }

# Everything that all formats have, below $1, but for the licences and zsh's completions.
stage() {
    local root=$1 server file doc=$1/usr/share/doc/vipswitch
    # Not in /usr/bin itself: systemd allows a single file there (ExecPaths=) by a mount on it, which goes
    # when an upgrade puts another in its place, and Sentinel could not run its hook until it is restarted.
    put 755 "$executable" "$root/usr/lib/vipswitch/vipswitch"
    install -d "$root/usr/bin"
    ln -s ../lib/vipswitch/vipswitch "$root/usr/bin/vipswitch"
    put 640 packaging/vipswitch.toml "$root/etc/vipswitch.toml"
    # For the way without agent. Not in the units' folders: with an agent Sentinel needs no privilege.
    for server in redis valkey; do
        put 644 "packaging/systemd/$server-sentinel.conf" "$doc/examples/systemd/$server-sentinel.conf"
    done
    # So that a server that is stopped by itself hands over, too.
    for server in redis valkey; do
        put 644 "packaging/systemd/$server-server.conf" "$doc/examples/systemd/$server-server.conf"
    done
    put 644 packaging/systemd/vipswitch-agent.service "$root/usr/lib/systemd/system/vipswitch-agent.service"
    put 644 packaging/systemd/vipswitch-handover.service "$root/usr/lib/systemd/system/vipswitch-handover.service"
    put 644 packaging/systemd/sysusers.conf "$root/usr/lib/sysusers.d/vipswitch.conf"
    put 644 packaging/systemd/vipswitch-sync.service "$root/usr/lib/systemd/system/vipswitch-sync.service"
    put 644 packaging/systemd/vipswitch-sync.timer "$root/usr/lib/systemd/system/vipswitch-sync.timer"
    # The name that everybody tries first: systemctl status vipswitch.
    ln -s vipswitch-agent.service "$root/usr/lib/systemd/system/vipswitch.service"
    put 644 packaging/systemd/tmpfiles.conf "$root/usr/lib/tmpfiles.d/vipswitch.conf"
    for file in NetworkManager/dispatcher.d networkd-dispatcher/routable.d; do
        put 755 packaging/network/interface-up "$root/usr/lib/$file/50-vipswitch"
    done
    put 644 "$work/documents/vipswitch.8" "$root/usr/share/man/man8/vipswitch.8"
    put 644 "$work/documents/vipswitch.toml.5" "$root/usr/share/man/man5/vipswitch.toml.5"
    gzip -n9 "$root"/usr/share/man/man?/*
    put 644 "$work/documents/vipswitch.bash" "$root/usr/share/bash-completion/completions/vipswitch"
    put 644 "$work/documents/vipswitch.fish" "$root/usr/share/fish/vendor_completions.d/vipswitch.fish"
    for file in README.md SECURITY.md docs/*.md; do put 644 "$file" "$doc/$file"; done
    put 644 "$work/THIRD-PARTY" "$doc/THIRD-PARTY"
    gzip -n9 "$doc/THIRD-PARTY"
    for file in examples/three-servers/*; do
        # They are written for an executable that was copied by hand.
        sed 's|/usr/local/bin/vipswitch|/usr/bin/vipswitch|g' "$file" >"$work/example"
        put 644 "$work/example" "$doc/$file"
    done
}

# Puts the common functions in the place of their mark.
script() { sed -e '/^#COMMON#$/{r packaging/scripts/common.sh' -e 'd}' "$1"; }

# The commit's date for every file.
date_all() { find "$1" -exec touch -h -d "@$SOURCE_DATE_EPOCH" {} +; }

build_deb() {
    need dpkg-deb dpkg
    local root=$work/deb doc=$work/deb/usr/share/doc/vipswitch name
    stage "$root"
    put 644 "$work/documents/_vipswitch" "$root/usr/share/zsh/vendor-completions/_vipswitch"
    put 755 packaging/network/interface-up "$root/etc/network/if-up.d/vipswitch"
    put 644 CHANGELOG.md "$doc/changelog"
    printf 'vipswitch (%s) unstable; urgency=medium\n\n  * See changelog.gz.\n\n -- %s  %s\n' "$version" \
        "$(sed -n 's/^Maintainer: //p' packaging/deb/control)" "$(date -d "@$SOURCE_DATE_EPOCH" -R)" >"$doc/changelog.Debian"
    gzip -n9 "$doc"/changelog*
    # The text as a paragraph of the copyright format: one space before each line, a dot for an empty one.
    sed -e 's/^$/./' -e 's/^/ /' LICENSE-MIT >"$work/mit"
    sed -e "/^@MIT@$/{r $work/mit" -e 'd}' packaging/deb/copyright >"$doc/copyright"
    put 644 packaging/deb/lintian-overrides "$root/usr/share/lintian/overrides/vipswitch"
    install -d "$root/DEBIAN"
    sed -e "s/@VERSION@/$version/; s/@ARCHITECTURE@/$deb_architecture/" \
        -e "s/@SIZE@/$(find "$root" -type f -printf '%s\n' | awk '{ kib += int(($1 + 1023) / 1024) } END { print kib }')/" \
        packaging/deb/control >"$root/DEBIAN/control"
    printf '%s\n' /etc/vipswitch.toml /etc/network/if-up.d/vipswitch >"$root/DEBIAN/conffiles"
    put 644 packaging/deb/triggers "$root/DEBIAN/triggers"
    for name in preinst postinst prerm postrm; do
        script "packaging/deb/$name" >"$root/DEBIAN/$name"
        chmod 755 "$root/DEBIAN/$name"
    done
    (cd "$root" && find usr -type f -print0 | sort -z | xargs -0 md5sum) >"$root/DEBIAN/md5sums"
    date_all "$root"
    # More than one thread of xz would write other bytes on other machines.
    DPKG_DEB_THREADS_MAX=1 dpkg-deb --root-owner-group -Zxz --build "$root" \
        "$packages/vipswitch_${version}_$deb_architecture.deb" >/dev/null
    echo "$packages/vipswitch_${version}_$deb_architecture.deb"
}

build_rpm() {
    need rpmbuild 'rpm (Fedora: rpm-build)'
    local root=$work/rpm name=vipswitch-$version-1.$machine.rpm
    stage "$root"
    put 644 "$work/documents/_vipswitch" "$root/usr/share/zsh/site-functions/_vipswitch"
    put 644 CHANGELOG.md "$root/usr/share/doc/vipswitch/CHANGELOG.md"
    put 644 LICENSE-MIT "$root/usr/share/licenses/vipswitch/LICENSE-MIT"
    put 644 LICENSE-APACHE "$root/usr/share/licenses/vipswitch/LICENSE-APACHE"
    put 644 packaging/rpm/vipswitch.preset "$root/usr/lib/systemd/system-preset/80-vipswitch.preset"
    date_all "$root"
    # rpmbuild reads macros in scriptlets, too.
    sed 's/%/%%/g' packaging/scripts/common.sh >"$work/common.sh"
    sed -e "/^#COMMON#$/{r $work/common.sh" -e 'd}' packaging/rpm/vipswitch.spec >"$work/vipswitch.spec"
    # Nothing of this machine's: no host name, no time, no macros of its own for what is in the files.
    rpmbuild --quiet -bb --target "$machine-linux" \
        --define "_topdir $work/rpmbuild" --define "_rpmdir $packages" --define "_dbpath $work/rpmdb" \
        --define "_rpmfilename $name" --define '_buildhost localhost' \
        --define 'use_source_date_epoch_as_buildtime 1' --define 'clamp_mtime_to_source_date_epoch 1' \
        --define "release_version $version" --define "staged $root" "$work/vipswitch.spec"
    echo "$packages/$name"
}

build_tar() {
    need tar tar
    local name=vipswitch-$version-$machine root
    root=$work/tar/$name
    stage "$root/files"
    put 755 packaging/network/interface-up "$root/files/etc/network/if-up.d/vipswitch"
    # install.sh puts it into a folder of the administrator's choice.
    mv "$root/files/usr/lib/vipswitch/vipswitch" "$root/files/usr/bin/vipswitch"
    rmdir "$root/files/usr/lib/vipswitch"
    sed -i 's|^ExecPaths=.*|ExecPaths=/usr/bin/vipswitch|' "$root"/files/usr/share/doc/vipswitch/examples/systemd/*.conf
    put 644 "$work/documents/_vipswitch" "$root/files/usr/share/zsh/site-functions/_vipswitch"
    for file in CHANGELOG.md LICENSE-MIT LICENSE-APACHE; do
        put 644 "$file" "$root/files/usr/share/doc/vipswitch/$file"
    done
    for file in README.md SECURITY.md docs/*.md; do put 644 "$file" "$root/$file"; done
    script packaging/install.sh >"$root/install.sh"
    chmod 755 "$root/install.sh"
    tar --create --sort=name --format=ustar --mtime="@$SOURCE_DATE_EPOCH" --owner=0 --group=0 --numeric-owner \
        --directory "$work/tar" "$name" | gzip -n9 >"$packages/$name.tar.gz"
    echo "$packages/$name.tar.gz"
}

for format in $formats; do "build_$format"; done
