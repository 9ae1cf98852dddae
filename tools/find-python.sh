#!/bin/sh
# Print the first Python that is new enough (3.11 or later) and can make virtual environments.
# An interpreter named as the first argument is tried before all others.
set -u

found=
for candidate in "${1:-}" python3.12 python3.11 python3.13 python3 python3.14; do
    [ -n "$candidate" ] || continue
    "$candidate" -c 'import sys; sys.exit(sys.version_info < (3, 11))' >/dev/null 2>&1 || continue
    found=$candidate
    if "$candidate" -c 'import ensurepip, venv' >/dev/null 2>&1; then
        echo "$candidate"
        exit 0
    fi
done

if [ -n "$found" ]; then
    echo "$found cannot make virtual environments: install its venv module (python3-venv on Debian)." >&2
else
    echo "Python 3.11 or later is needed and was not found: install it, or name it with make PYTHON=..." >&2
fi
exit 1
