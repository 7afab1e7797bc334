"""Words that name nobody: those of nasflow's own commands, and of the answers that it reads.

A person or a computer may be called by one of them (``data``, ``google``). Replaced everywhere, such a name
would change the commands, and a replay would find no answer to them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

_WORD = re.compile(r"[0-9A-Za-z]+")

_PLACES = """\
acct apex bin bus cache class cpu cpufreq data dev devices etc home kernel lib lib64 local lock metadata mnt
nasflow null odm opt oem policy proc product root run sdcard self srv stat storage sys system tmp uptime
users usr var vendor"""
_COMMANDS = """\
adb awk cat chmod cmd command cp cut date default delete df dirname disable done dumpsys echo elif else
enable enabled exec exit export false fi find for force get getprop global grep head id if in input install
job keyevent kill ls mkdir mode mount mv nice nohup nproc power printf ps pull push put pwd read replace
reset rm sed seq set setprop setsid settings sh sha256sum shell shift sleep start stat stop svc tail taskset
test then toybox tr trap true uname until wait wakeup while"""
_ANSWERS = """\
abi android asleep auto available average awake battery benchmark big bit board brand build category
charging classic clock code cold completed computer config content core cores count cpu curr current darwin
debug delegate density device disconnected emulator error fail failed first fixed flatbuffer gpu graph
hardware health host hot idle info init input kernel level linux litert little max mean median memory min
model name network nobody none normal not offline ok online operator owner performance person phone plugged
policy present prime process properties property protobuf release result root runs runtime screen sensor
serial service settings severity shell skin status std system temperature test thermal threads time timeout
tool type unauthorized unavailable unknown unset usb user value version virtual voltage warmup wifi windows
xnnpack"""
_MAKERS = """\
amlogic asus exynos fairphone google honor huawei intel kirin lenovo lge mediatek mtk meizu motorola nokia
nothing nubia oneplus oppo pixel poco qcom qualcomm razer realme redmi samsung sharp snapdragon sony tensor
unisoc vivo xiaomi xperia zte galaxy"""

PLAIN = frozenset(f"{_PLACES} {_COMMANDS} {_ANSWERS} {_MAKERS}".split())
"""In lower case."""


def words_of(texts: Iterable[str]) -> frozenset[str]:
    """The words of some texts, in lower case."""
    return frozenset(word.lower() for text in texts for word in _WORD.findall(text))


def is_made_of(name: str, words: frozenset[str]) -> bool:
    """Whether a name consists of nothing but such words: ``data``, ``google-pixel``."""
    own = words_of([name])
    return bool(own) and own <= words
