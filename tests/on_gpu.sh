#!/usr/bin/env bash
# Checks of this package on a GPU, in under 8 minutes, where torch and nnU-Net are installed and nothing else is prepared:
#
#     tests/on_gpu.sh [-device cuda|cpu] [CHECK ...]
#
# One line per check: ok, FAILED or skipped. Exit status 1 if any failed. PYTHON names the interpreter (default: python3).
set -u
root=$(cd "$(dirname "$0")/.." && pwd)
python=${PYTHON:-python3}
# what is missing is installed where there is a network; without one the checkout is used as it is
if ! "$python" -c "import nnunet_al, kneed" > /dev/null 2>&1; then
    timeout 120 "$python" -m pip install --quiet --no-input --retries 0 --timeout 10 "$root" > /dev/null 2>&1 ||
        echo "pip install did not succeed: the checkout is used through PYTHONPATH"
fi
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
exec "$python" "$root/tests/on_gpu.py" "$@"
