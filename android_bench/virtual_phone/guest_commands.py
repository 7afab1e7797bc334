"""Android's own commands, as scripts in the sandbox's ``/system/bin``.

They read what :mod:`android_bench.virtual_phone.described_phone` wrote below ``/system/etc/phone``, which
commands cannot change; what commands may set lies below ``/data/system``. ``taskset`` refuses cores that the
phone lacks, and otherwise runs the command where this computer likes: its cores are not the phone's.
"""

from __future__ import annotations

import sys

PHONE_FOLDER = "/system/etc/phone"
SETTINGS_FOLDER = "/data/system"
PACKAGES_FOLDER = "/system/lib/nasflow"
PYTHON = "/system/lib/python/bin/python3"
PYTHON_LIBRARY = f"/system/lib/python/{sys.platlibdir}"
PYTHON_ENVIRONMENT = {
    "PYTHONHOME": "/system/lib/python",
    "PYTHONPATH": PACKAGES_FOLDER,
    "LD_LIBRARY_PATH": PYTHON_LIBRARY,  # of a Python that knows only where on the host its library lies
}
"""With these the interpreter runs at its place inside."""

_GETPROP = f"""
case $# in
0) cat {PHONE_FOLDER}/getprop ;;
*) case $1 in */*) echo; exit 0 ;; esac
   if [ -f {PHONE_FOLDER}/properties/"$1" ]; then cat {PHONE_FOLDER}/properties/"$1"
   else echo "${{2-}}"; fi ;;
esac
"""
_SETPROP = """
echo "setprop: failed to set property '$1' to '$2'" >&2
exit 1
"""
_DUMPSYS = f"""
case $1 in
thermalservice|battery) cat {PHONE_FOLDER}/"$1" ;;
power) echo "  mStayOnWhilePluggedInSetting=$(cat {SETTINGS_FOLDER}/global/stay_on_while_plugged_in \
2>/dev/null || echo 0)" ;;
-l) printf 'Currently running services:\\n  battery\\n  power\\n  thermalservice\\n' ;;
*) echo "Can't find service: $1" >&2; exit 1 ;;
esac
"""
_SETTINGS = f"""
action=$1 space=$2 key=$3 value=$4
case $space in global|system|secure) ;; *) echo "Invalid namespace '$space'" >&2; exit 255 ;; esac
case $key in ''|*/*|.*) echo 'Bad arguments' >&2; exit 255 ;; esac
file={SETTINGS_FOLDER}/$space/$key
case $action in
get) cat "$file" 2>/dev/null || echo null ;;
put) mkdir -p {SETTINGS_FOLDER}/$space && printf '%s\\n' "$value" >"$file" ;;
delete) if rm "$file" 2>/dev/null; then echo 'Deleted 1 rows'; else echo 'Deleted 0 rows'; fi ;;
*) echo "Unknown command: $action" >&2; exit 255 ;;
esac
"""
_SVC = """
[ "$1 $2" = 'power stayon' ] || { echo "svc: $* is not there" >&2; exit 1; }
case $3 in
true) value=7 ;;
false) value=0 ;;
ac) value=1 ;;
usb) value=2 ;;
wireless) value=4 ;;
*) echo 'usage: svc power stayon [true|false|usb|ac|wireless|dock]' >&2; exit 1 ;;
esac
/system/bin/settings put global stay_on_while_plugged_in $value
"""
_CMD = f"""
case "$1 $2" in
'power set-fixed-performance-mode-enabled')
  case $3 in
  true|false) mkdir -p {SETTINGS_FOLDER}/power && echo "$3" >{SETTINGS_FOLDER}/power/fixed_performance ;;
  *) echo 'Error: expected true or false' >&2; exit 255 ;;
  esac ;;
*) echo "cmd: Can't find service: $1" >&2; exit 20 ;;
esac
"""
_DF = f"""
if [ -f {PHONE_FOLDER}/free_kib ]; then
  free=$(cat {PHONE_FOLDER}/free_kib) total=117440512
  echo 'Filesystem       1K-blocks      Used Available Use% Mounted on'
  echo "/dev/block/dm-51 $total $((total - free)) $free 100% /data"
else exec /usr/bin/df "$@"
fi
"""
_TASKSET = f"""
case $1 in -p|-a|-ap|-pa) exec /usr/bin/taskset "$@" ;; esac
mask=${{1#0x}}; shift
case $mask in ''|*[!0-9a-fA-F]*) echo "taskset: bad mask '$mask'" >&2; exit 1 ;; esac
all=$(cat {PHONE_FOLDER}/cpu_mask)
if [ $((0x$mask & 0x$all)) -eq 0 ]; then
  echo "taskset: sched_setaffinity failed: Invalid argument" >&2; exit 1
fi
[ $# -gt 0 ] || {{ echo 'taskset: Needs 2 arguments' >&2; exit 1; }}
exec "$@"
"""
_ID = """
echo 'uid=2000(shell) gid=2000(shell) groups=2000(shell),1004(input),1007(log),3003(inet)'
"""
_UNAME = f"""
case $1 in
-m) cat {PHONE_FOLDER}/machine ;;
*) exec /usr/bin/uname "$@" ;;
esac
"""


def commands() -> dict[str, str]:
    """Name and text of each script."""
    return {
        name: f"#!/system/bin/sh{text}"
        for name, text in {
            "getprop": _GETPROP,
            "setprop": _SETPROP,
            "dumpsys": _DUMPSYS,
            "settings": _SETTINGS,
            "svc": _SVC,
            "cmd": _CMD,
            "df": _DF,
            "taskset": _TASKSET,
            "id": _ID,
            "uname": _UNAME,
        }.items()
    }


def tool_script(flavour: str) -> str:
    """``benchmark_model`` of one flavour: the program that runs models."""
    variables = " ".join(f"{name}={value}" for name, value in PYTHON_ENVIRONMENT.items())
    return (
        "#!/system/bin/sh\n"
        f"{variables} exec {PYTHON} -s -S -P "
        f'-m android_bench.virtual_phone.benchmark_tool {flavour} "$@"\n'
    )
