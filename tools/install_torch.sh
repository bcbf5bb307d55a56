#!/usr/bin/env bash
# Installs PyTorch into an environment, the small CPU build where there is no NVIDIA GPU.   tools/install_torch.sh .venv/bin/python
# TORCH: what to install (torch==2.13.0). TORCH_PIP_ARGS: your own pip arguments for it, instead of all this choosing.
set -u
python=$1
torch=${TORCH:-torch==2.13.0}
if "$python" -c 'import importlib.metadata as m; m.version("torch")' 2>/dev/null; then
  echo "torch: $("$python" -c 'import importlib.metadata as m; print(m.version("torch"))') is there"
  exit 0
fi
install() { "$python" -m pip install --quiet "$@" "$torch"; }
if [ -n "${TORCH_PIP_ARGS:-}" ]; then
  # shellcheck disable=SC2086  # several arguments are meant
  install $TORCH_PIP_ARGS
  exit
fi
if nvidia-smi -L >/dev/null 2>&1; then
  echo "torch: an NVIDIA GPU is here: installing the CUDA build (a download of some gigabytes)"
  install
  exit
fi
echo "torch: no NVIDIA GPU: installing the CPU build"
# A wheel that this machine's pip is configured to find (find-links), then PyTorch's own CPU builds, then pip's plain choice.
install --no-index --no-deps 2>/dev/null && exit
install --timeout 15 --retries 1 --index-url https://download.pytorch.org/whl/cpu 2>/dev/null && exit
echo "torch: PyTorch's CPU builds are out of reach: taking what pip finds (maybe the CUDA build, some gigabytes)"
install
