#!/usr/bin/env bash
# Installs the Debian/Ubuntu packages that are missing, if that is permitted (root, or sudo without a password); says what to
# type if it is not.   tools/system_packages.sh run|test
set -u
here=$(cd "$(dirname "$0")" && pwd)
needed=() wanted=()

python=$("$here/find_python.sh" || "$here/find_python.sh" --any || true)
if [ -z "$python" ]; then
  needed+=(python3 python3-venv python3-dev)
else
  version=$("$python" -c 'import sys; print("%d.%d" % sys.version_info[:2])')
  "$here/find_python.sh" >/dev/null || needed+=("python$version-venv")
  "$python" -c 'import os, sys, sysconfig; sys.exit(not os.path.exists(os.path.join(sysconfig.get_path("include"), "Python.h")))' \
    || needed+=("python$version-dev")
fi
command -v cc >/dev/null || needed+=(gcc libc6-dev)   # the audio callback is built at install
command -v c++ >/dev/null || needed+=(g++)            # so is pyworld
libraries=$(PATH="$PATH:/sbin:/usr/sbin" ldconfig -p 2>/dev/null || true)
case "$libraries" in *libportaudio.so.2*) ;; *) needed+=(libportaudio2) ;; esac
if [ "${1:-run}" = test ]; then
  command -v jackd >/dev/null || wanted+=(jackd2)                  # the tests play through a real JACK server
  case "$libraries" in *libjack.so.0*) ;; *) wanted+=(libjack-jackd2-0) ;; esac
  command -v systemd-analyze >/dev/null || wanted+=(systemd)       # and check the units,
  [ -x /bin/kill ] || wanted+=(procps)                             # with every command in them
  command -v oscsend >/dev/null || wanted+=(liblo-tools)          # and another OSC program talks to the daemon
  command -v pipewire >/dev/null || wanted+=(pipewire pipewire-bin pipewire-pulse)   # the microphone is made in a real PipeWire
  command -v wireplumber >/dev/null || wanted+=(wireplumber)
  command -v dbus-run-session >/dev/null || wanted+=(dbus)
  command -v pulseaudio >/dev/null || wanted+=(pulseaudio pulseaudio-utils libasound2-plugins)  # and a private PulseAudio is measured
  command -v strace >/dev/null || wanted+=(strace)                # and the daemon's connections are watched
fi

missing=("${needed[@]}" "${wanted[@]}")
if [ ${#missing[@]} -eq 0 ]; then
  echo "system packages: all there"
  exit 0
fi
command="apt-get install --yes --no-install-recommends ${missing[*]}"
if ! command -v apt-get >/dev/null; then
  echo "system packages: this is no Debian or Ubuntu; install what these are called here: ${missing[*]}" >&2
else
  as_root=
  [ "$(id -u)" -eq 0 ] || as_root="sudo -n"
  if [ -z "$as_root" ] || $as_root true 2>/dev/null; then
    echo "system packages: installing ${missing[*]}"
    $as_root env DEBIAN_FRONTEND=noninteractive apt-get update -qq \
      && $as_root env DEBIAN_FRONTEND=noninteractive $command </dev/null >/dev/null \
      && exit 0
    echo "system packages: that failed" >&2
  fi
  echo "system packages: please run this, then try again:  sudo $command" >&2
fi
[ ${#needed[@]} -eq 0 ] && { echo "system packages: going on without ${wanted[*]}: their tests are skipped" >&2; exit 0; }
exit 1
