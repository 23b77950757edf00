#!/usr/bin/env bash
# Makes a base image for the Dockerfile where no registry can be reached: Debian of this machine's release, with this
# machine's Python under /usr/local. Only for tests; a published image stands on an official python image.
#
#   infra/image/test-base.sh [NAME]        as root, on Debian; PYTHON names the interpreter to copy (python3)
#   make image BASE_IMAGE=NAME
#
# An image of that NAME which exists already is kept: `docker image rm NAME` first to make it anew.
set -euo pipefail

name=${1:-headstart-test-base}
python=${PYTHON:-python3}

if docker image inspect "$name" >/dev/null 2>&1; then
  echo "$name exists"
  exit
fi

prefix=$("$python" -c 'import sys; print(sys.base_prefix)')
version=$("$python" -c 'import sys; print("python%d.%d" % sys.version_info[:2])')
if [[ $prefix == /usr ]]; then
  echo "test-base.sh: $python is the system's own and cannot be copied alone; set PYTHON to one with its own prefix" >&2
  exit 1
fi

work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
root=$work/root

# The package that holds a shared library. dpkg knows it by the path that the package was built with: Debian 12's C library
# lies in /lib, which is a link to /usr/lib.
package_of() {
  dpkg-query --search "$1" 2>/dev/null || dpkg-query --search "${1#/usr}" 2>/dev/null || {
    echo "test-base.sh: no Debian package holds $1, which $python is linked to; set PYTHON to an interpreter whose" \
      "libraries are Debian's or lie below its own prefix" >&2
    return 1
  }
}

# The Debian packages that hold the shared libraries which Python and its extension modules are linked to.
linked=$(
  find "$prefix/bin/$version" "$prefix/lib/$version/lib-dynload" -type f -exec ldd {} + |
    awk '$3 ~ "^/" { print $3 }' | sort -u | xargs -r realpath | sort -u | { grep -v "^$prefix/" || true; }
)
libraries=$(for library in $linked; do package_of "$library" || exit 1; done | cut -d: -f1 | sort -u | paste -sd,)

. /etc/os-release
debootstrap --variant=minbase --include="ca-certificates,$libraries" "$VERSION_CODENAME" "$root" >"$work/log" 2>&1 ||
  { tail -n 20 "$work/log" >&2; exit 1; }

tar --create --directory "$prefix" \
  --exclude=site-packages --exclude=__pycache__ --exclude=test --exclude=idlelib --exclude='config-*' --exclude='*.a' \
  "bin/$version" "lib/$version" $(cd "$prefix" && ls -d lib/libpython*.so* 2>/dev/null) |
  tar --extract --no-same-owner --directory "$root/usr/local"
ln -s "$version" "$root/usr/local/bin/python3"
ln -s python3 "$root/usr/local/bin/python"
chroot "$root" ldconfig
chroot "$root" env -i PATH=/usr/local/bin:/usr/bin:/bin HOME=/tmp python3 -m ensurepip >"$work/log" 2>&1 ||
  { tail -n 20 "$work/log" >&2; exit 1; }
ln -s pip3 "$root/usr/local/bin/pip"

rm -rf "$root"/var/cache/apt/* "$root"/var/lib/apt/lists/* "$root"/var/log/* "$root"/usr/share/{doc,man,locale}/*
: >"$root/etc/resolv.conf"
echo localhost >"$root/etc/hostname"

tar --create --numeric-owner --directory "$root" . |
  docker import --change 'ENV LANG=C.UTF-8' --change 'CMD ["python3"]' - "$name" >/dev/null
echo "made $name: $("$python" --version) on Debian $VERSION_CODENAME"
