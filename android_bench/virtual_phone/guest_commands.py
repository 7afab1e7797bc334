"""Android's own commands, as scripts in the sandbox's ``/system/bin``.

They read what :mod:`android_bench.virtual_phone.described_phone` wrote below ``/system/etc/phone``, which
commands cannot change; what commands may set lies below ``/data/system``. ``taskset`` refuses cores that the
phone lacks, and otherwise runs the command where this computer likes: its cores are not the phone's.

Each text and exit code is that of the source named beside it (AOSP: frameworks/base unless said otherwise).
"""

from __future__ import annotations

import sys

from android_bench.virtual_phone.clocks import BUSY, POWER_FOLDER

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

# toybox getprop (AOSP system/core, toolbox/getprop.cpp): a property that is not set prints an empty line.
_GETPROP = f"""
case $# in
0) cat {PHONE_FOLDER}/getprop ;;
*) case $1 in */*) echo; exit 0 ;; esac
   if [ -f {PHONE_FOLDER}/properties/"$1" ]; then cat {PHONE_FOLDER}/properties/"$1"
   else echo "${{2-}}"; fi ;;
esac
"""
# toybox toys/android/setprop.c: what init refuses.
_SETPROP = """
echo "setprop: failed to set property '$1' to '$2'" >&2
exit 1
"""
# Whether the phone is awake: "Awake" or "Asleep" and since when, in hundredths of seconds of uptime. Its
# words are those of PowerManagerInternal.wakefulnessToString. That a phone falls asleep by
# screen_off_timeout, that stay_on_while_plugged_in holds only on power, and that a lock screen has a shorter
# time of its own: PowerManagerService (isBeingKeptAwakeLocked), PowerManagerInternal
# (setUserActivityTimeoutOverrideFromWindowManager).
_WAKEFULNESS = f"""
. {PHONE_FOLDER}/switches
power={SETTINGS_FOLDER}/power
uptime_cs() {{ read -r u _ </proc/uptime; echo "${{u%.*}}${{u#*.}}"; }}
become() {{ mkdir -p $power && echo "$1 $(uptime_cs)" >$power/wakefulness.$$ \
  && mv -f $power/wakefulness.$$ $power/wakefulness; }}
stay_on=$(cat {SETTINGS_FOLDER}/global/stay_on_while_plugged_in 2>/dev/null || echo 0)
stays_on() {{ [ $plugged = 1 ] && [ "$stay_on" != 0 ]; }}
left_cs() {{ # until it falls asleep; nothing: it does not
  [ -n "$sleeps_after_cs" ] && ! stays_on || return 0
  after=$sleeps_after_cs
  set_ms=$(cat {SETTINGS_FOLDER}/system/screen_off_timeout 2>/dev/null)
  [ $lock_screen = 1 ] || [ -z "$set_ms" ] || after=$((set_ms / 10))
  [ $since -gt $set_at_cs ] || since=$set_at_cs
  echo $((since + after - $(uptime_cs)))
}}
state=Awake since=0
[ ! -f $power/wakefulness ] || read -r state since <$power/wakefulness
left=
if [ $state = Awake ]; then
  left=$(left_cs)
  if [ -n "$left" ] && [ $left -le 0 ]; then state=Asleep; become Asleep; fi
fi
"""
# AOSP frameworks/native cmds/dumpsys/dumpsys.cpp: a missing service is told on standard error, and the exit
# code is 0. "power": PowerManagerService.dumpInternal, its first lines.
_DUMPSYS = f"""
{_WAKEFULNESS}
case $missing in *" $1 "*) echo "Can't find service: $1" >&2; exit 0 ;; esac
case $1 in
thermalservice|battery) cat {PHONE_FOLDER}/"$1" ;;
power)
  stays=false; ! stays_on || stays=true
  is_powered=false; [ $plugged = 0 ] || is_powered=true
  cat <<END
POWER MANAGER (dumpsys power)

Power Manager State:
  Settings power_manager_constants:
    no_cached_wake_locks=true
  mDirty=0x0
  mWakefulness=$state
  mWakefulnessChanging=false
  mIsPowered=$is_powered
  mPlugType=$((2 * plugged))
  mDockState=0
  mStayOn=$stays
  mBootCompleted=true
  mSystemReady=true

Settings and Configuration:
  mStayOnWhilePluggedInSetting=$stay_on
END
  ;;
-l) printf 'Currently running services:\\n  battery\\n  power\\n  thermalservice\\n' ;;
*) echo "Can't find service: $1" >&2 ;;
esac
exit 0
"""
# packages/SettingsProvider SettingsService.MyShellCommand.onCommand (-1 is exit code 255). The refusal is
# that of a Xiaomi phone (github.com/whyakari/TermuxDisableProcces issue 1), shortened to its first frame;
# that exceptions end with 255: github.com/Genymobile/gnirehtet issue 264.
_SETTINGS = f"""
. {PHONE_FOLDER}/switches
action=$1 space=$2 key=$3 value=$4
case $action in get|put|delete) ;; *) echo "Invalid command: $action" >&2; exit 255 ;; esac
case $space in global|system|secure) ;; '') echo 'Bad arguments' >&2; exit 255 ;;
*) echo "Invalid namespace '$space'" >&2; exit 255 ;; esac
case $key in ''|*/*|.*) echo 'Bad arguments' >&2; exit 255 ;; esac
file={SETTINGS_FOLDER}/$space/$key
if [ $action != get ] && [ $refuse_settings = 1 ]; then
  cat >&2 <<END

Exception occurred while executing '$action':
java.lang.SecurityException: Permission denial: writing to settings \
requires:android.permission.WRITE_SECURE_SETTINGS
	at com.android.providers.settings.SettingsProvider.enforceWritePermission(SettingsProvider.java:2272)
END
  exit 255
fi
case $action in
get) cat "$file" 2>/dev/null || echo null ;;
put)
  [ $# -ge 4 ] || {{ echo 'Bad arguments' >&2; exit 255; }}
  mkdir -p {SETTINGS_FOLDER}/$space && printf '%s\\n' "$value" >"$file" ;;
delete) if rm "$file" 2>/dev/null; then echo 'Deleted 1 rows'; else echo 'Deleted 0 rows'; fi ;;
esac
"""
# cmds/svc PowerCommand.java: "stayon" wakes the screen, too; what it does not know prints its help, exit code
# 0. The setting goes through the power manager, and not through the settings' permission.
_SVC = f"""
{_WAKEFULNESS}
value=
case "$1 $2 $#" in 'power stayon 3')
  case $3 in true) value=7 ;; false) value=0 ;; ac) value=1 ;; usb) value=2 ;; wireless) value=4 ;; esac ;;
esac
if [ -z "$value" ]; then
  cat >&2 <<END
Control the power manager

usage: svc power stayon [true|false|usb|ac|wireless]
         Set the 'keep awake while plugged in' setting.
       svc power reboot [reason]
         Perform a runtime shutdown and reboot device with specified reason.
       svc power shutdown
         Perform a runtime shutdown and power off the device.

END
  exit 0
fi
[ $value = 0 ] || [ $stays_asleep = 1 ] || become Awake
mkdir -p {SETTINGS_FOLDER}/global && echo $value >{SETTINGS_FOLDER}/global/stay_on_while_plugged_in
"""
# services InputShellCommand.java: keys by name or number (KeyEvent: sleep 223, wake up 224), exit code 0 even
# for a command that it does not know. The refusal: github.com/droidrun/mobilerun-portal issue 5.
_INPUT = f"""
{_WAKEFULNESS}
[ "$1" = keyevent ] || exit 0
if [ $refuse_input = 1 ]; then
  cat >&2 <<END

Exception occurred while executing 'keyevent':
java.lang.SecurityException: Injecting input events requires the caller (or the source of the \
instrumentation, if any) to have the INJECT_EVENTS permission.
	at com.android.server.input.InputManagerService.injectInputEventToTarget(InputManagerService.java:911)
END
  exit 255
fi
case $2 in
KEYCODE_WAKEUP|224) [ $stays_asleep = 1 ] || [ $state = Awake ] || become Awake ;;
KEYCODE_SLEEP|223) become Asleep ;;
esac
exit 0
"""
# AOSP frameworks/native cmds/cmd/cmd.cpp: 20 for a missing service. services PowerManagerShellCommand.java:
# anything but "true" is false; -1 is exit code 255. An unknown command: BasicShellCommandHandler.
_CMD = f"""
{_WAKEFULNESS}
case $missing in *" $1 "*) echo "cmd: Can't find service: $1" >&2; exit 20 ;; esac
case "$1 $2" in
'power set-fixed-performance-mode-enabled')
  if [ $refuse_fixed_performance = 1 ]; then
    echo 'Failed to set FIXED_PERFORMANCE mode' >&2
    echo 'This is likely because Power HAL AIDL is not implemented on this device' >&2
    exit 255
  fi
  mode=false; [ "$3" != true ] || mode=true
  mkdir -p $power && echo $mode >$power/fixed_performance ;;
'power wakeup') [ $stays_asleep = 1 ] || [ $state = Awake ] || become Awake ;;
'power sleep') become Asleep ;;
'power '*) echo "Unknown command: $2"; exit 255 ;;
*) echo "cmd: Can't find service: $1" >&2; exit 20 ;;
esac
"""
# The phone's clock: this computer's, and as much as it is ahead (toybox toys/posix/date.c knows +%s and %N).
_DATE = f"""
exec /usr/bin/date -d "$(cat {PHONE_FOLDER}/clock_offset_s) seconds" "$@"
"""
# toybox toys/posix/df.c; the device's name is assumed.
_DF = f"""
if [ -f {PHONE_FOLDER}/free_kib ]; then
  free=$(cat {PHONE_FOLDER}/free_kib) total=117440512
  echo 'Filesystem       1K-blocks      Used Available Use% Mounted on'
  echo "/dev/block/dm-51 $total $((total - free)) $free 100% /data"
else exec /usr/bin/df "$@"
fi
"""
# toybox toys/other/taskset.c: digits alone, without 0x.
_TASKSET = f"""
case $1 in -p|-a|-ap|-pa) exec /usr/bin/taskset "$@" ;; esac
[ $# -gt 1 ] || {{ echo 'taskset: Needs 2 args' >&2; exit 1; }}
mask=$1; shift
case $mask in ''|*[!0-9a-fA-F]*) echo "taskset: bad mask '$mask'" >&2; exit 1 ;; esac
all=$(cat {PHONE_FOLDER}/cpu_mask)
if [ $((0x$mask & 0x$all)) -eq 0 ]; then
  echo "taskset: failed to set pid $$'s affinity: Invalid argument" >&2; exit 1
fi
exec "$@"
"""
# toybox id with some of the groups that adbd gives its shell (AOSP packages/modules/adb, daemon/main.cpp).
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
            "date": _DATE,
            "input": _INPUT,
            "df": _DF,
            "taskset": _TASKSET,
            "id": _ID,
            "uname": _UNAME,
        }.items()
    }


def tool_script(flavour: str) -> str:
    """``benchmark_model`` of one flavour: the program that runs models.

    It is told for how long the phone stays awake; nothing: for good. From its first moment to its last it
    holds a lock, by which the phone knows that it is under load.
    """
    variables = " ".join(f"{name}={value}" for name, value in PYTHON_ENVIRONMENT.items())
    return (
        f"#!/system/bin/sh\n{_WAKEFULNESS}\n"
        "[ $state = Awake ] || left=0\n"
        "export NASFLOW_TOOL_AWAKE_CS=$left\n"
        f"exec flock --shared --no-fork {POWER_FOLDER}/{BUSY} env {variables} {PYTHON} -s -S -P "
        f'-m android_bench.virtual_phone.benchmark_tool {flavour} "$0" "$@"\n'
    )
