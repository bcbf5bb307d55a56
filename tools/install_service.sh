#!/usr/bin/env bash
# Installs the user unit, with this clone's rvcd as its program, and says how to start it.   tools/install_service.sh VENV
set -eu
root=$(cd "$(dirname "$0")/.." && pwd)
program=$(cd "$1/bin" && pwd)/rvcd
folder=${XDG_CONFIG_HOME:-$HOME/.config}/systemd/user
mkdir -p "$folder"
quoted=$(printf '%s' "$program" | sed -e 's/%/%%/g' -e 's/[&|\\]/\\&/g')
sed "s|^ExecStart=.*|ExecStart=\"$quoted\" run|" "$root/systemd/user/rvcd.service" >"$folder/rvcd.service"
echo "installed $folder/rvcd.service, which runs $program"
systemctl --user daemon-reload 2>/dev/null || echo "(no user manager answers in this session; it reads the unit when it starts)"
cat <<'TEXT'
start it, now and at every login:   systemctl --user enable --now rvcd
keep it running without a login:    sudo loginctl enable-linger "$USER"
read its log:                       journalctl --user -u rvcd -f
TEXT
