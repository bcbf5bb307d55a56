#!/usr/bin/env bash
# Prints the Python to build the environment with: the first that starts, is 3.10 to 3.13, and can make a virtual environment.
# With --any: the first of the right version, whether it can make one or not. Prints nothing and fails when there is none.
set -u
test_of='import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))'
[ "${1:-}" = --any ] || test_of="import venv, ensurepip; $test_of"
# 3.11 first: it is Debian 12's, and what this project is developed with. A name on PATH may be a shim with no version behind
# it, so each is tried, and the real path is printed.
for name in ${PYTHON:-python3.11 python3.12 python3.10 python3.13 python3}; do
  if "$name" -c "$test_of" >/dev/null 2>&1; then
    "$name" -c 'import sys; print(sys.executable)'
    exit 0
  fi
done
exit 1
