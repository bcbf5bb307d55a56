#!/usr/bin/env bash
# Installs the user units, with this clone's rvcd as their program, and says how to start them.   tools/install_service.sh VENV
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
program=$(cd "$1/bin" && pwd)/rvcd
folder=${XDG_CONFIG_HOME:-$HOME/.config}/systemd/user
mkdir -p "$folder"
quoted=$(printf '%s' "$program" | sed -e 's/%/%%/g' -e 's/[&|\\]/\\&/g')
for unit in rvcd.service rvcd@.service; do
  sed "s|^ExecStart=[^ ]* |ExecStart=\"$quoted\" |" "$root/systemd/user/$unit" >"$folder/$unit"
  echo "installed $folder/$unit, which runs $program"
done
systemctl --user daemon-reload 2>/dev/null || echo "(no user manager answers in this session; it reads the units when it starts)"
cat <<'TEXT'
start it, now and at every login:   systemctl --user enable --now rvcd
another one beside it, by a name:   systemctl --user enable --now rvcd@NAME
keep it running without a login:    sudo loginctl enable-linger "$USER"
read its log:                       journalctl --user -u rvcd -f
TEXT
