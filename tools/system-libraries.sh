#!/bin/sh
# Check for the system libraries that Qt, OpenGL and the virtual display need, and install what is missing.
#
# As root on Debian or Ubuntu the missing packages are installed with apt-get. Anyone else is shown the
# command to run. Exit status 1 means that napari could not open a window (real or virtual) as things stand.
set -u

# Without these no Qt window opens.
window="libgl1 libegl1 libopengl0 libxkbcommon-x11-0 libxcb-cursor0 libxcb-icccm4 libxcb-keysyms1 \
libxcb-shape0 libxcb-image0 libxcb-render-util0 libxcb-randr0 libdbus-1-3 libglib2.0-0 libfontconfig1"
# These stand in for a screen and its graphics card.
virtual="xvfb xauth libgl1-mesa-dri"
# Good to have.
extra="libxcb-xinerama0"

has_display() {
    [ -n "${DISPLAY:-}" ] || [ -n "${WAYLAND_DISPLAY:-}" ]
}

# Newer releases renamed some libraries from NAME to NAMEt64.
is_installed() {
    dpkg-query -W -f '${db:Status-Status}\n' "$1" 2>/dev/null | grep -qx installed ||
        dpkg-query -W -f '${db:Status-Status}\n' "${1}t64" 2>/dev/null | grep -qx installed
}

missing_of() {
    for package in "$@"; do
        is_installed "$package" || printf '%s ' "$package"
    done
}

if [ "$(uname -s)" != Linux ]; then
    exit 0
fi

if ! command -v dpkg-query >/dev/null 2>&1 || ! command -v apt-get >/dev/null 2>&1; then
    if ! has_display && ! command -v xvfb-run >/dev/null 2>&1; then
        echo "There is no display and no xvfb-run: install your distribution's package for Xvfb." >&2
        exit 1
    fi
    exit 0
fi

# The lists are split into words on purpose.
# shellcheck disable=SC2086
missing=$(missing_of $window $virtual $extra)
if [ -z "$missing" ]; then
    exit 0
fi

if [ "$(id -u)" -eq 0 ]; then
    echo "Installing system libraries: $missing"
    export DEBIAN_FRONTEND=noninteractive
    apt-get -o DPkg::Lock::Timeout=120 -q update </dev/null ||
        echo "apt-get update failed; trying with the package lists at hand." >&2
    # shellcheck disable=SC2086
    apt-get -o DPkg::Lock::Timeout=120 -q install -y --no-install-recommends $missing </dev/null ||
        echo "apt-get could not install all of: $missing" >&2
else
    echo "System libraries are missing. To install them, run:" >&2
    echo "    sudo apt-get update && sudo apt-get install -y --no-install-recommends $missing" >&2
fi

if has_display; then
    needed=$window
else
    needed="$window $virtual"
fi
# shellcheck disable=SC2086
still_missing=$(missing_of $needed)
if [ -n "$still_missing" ]; then
    echo "napari cannot open a window without these system packages: $still_missing" >&2
    exit 1
fi
