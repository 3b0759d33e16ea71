#!/usr/bin/env bash
# Run the Python tests with the oldest or newest dependencies that pyproject.toml allows.
#
#     PYTHON_OF=python3.10 UV=.venv/bin/uv scripts/test_bounds.sh oldest .venv-oldest [pytest arguments]
#
# WITHOUT names packages that are left out; tests that need them are skipped. The built package is that of the
# checkout: its binary is one for all versions of Python (abi3).
set -euo pipefail
cd "$(dirname "$0")/.."
bound=$1 venv=$2
shift 2

"$UV" venv --quiet --clear --python "$PYTHON_OF" "$venv"
version=$("$venv/bin/python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
tr ' ' '\n' <<<"${WITHOUT:-}" >"$venv/without.txt"
case $bound in
oldest) resolution=lowest-direct ;;
newest) resolution=highest ;;
*) echo "say oldest or newest, not $bound" >&2; exit 2 ;;
esac
compile=("$UV" pip compile --quiet pyproject.toml --upgrade --python-version "$version" --excludes "$venv/without.txt"
	--no-header --no-annotate --resolution $resolution)
"${compile[@]}" -o "$venv/resolved.txt"
# what is named in pyproject.toml is the bound; what that needs in turn moves with the test tools
"${compile[@]}" --no-deps -o "$venv/named.txt"
grep -E "^($(sed 's/==.*//' "$venv/named.txt" | paste -sd '|'))==" "$venv/resolved.txt" >"$venv/pins.txt"
# the test tools are no part of the bound: they come as new as the pins let them
"$UV" pip install --quiet --python "$venv/bin/python" -r "$venv/pins.txt" --group test --upgrade --constraints "$venv/pins.txt"
echo "$bound dependencies on Python $version:" $(tr '\n' ' ' <"$venv/pins.txt")
PYTHONPATH=$PWD/python "$venv/bin/python" -m pytest "$@"
