"""The phone that the virtual phone claims to be: frozen data, and the texts that tools print from it.

The texts look as real phones print them (Pixel 8 Pro, Android 14). The figures of a moment (uptime,
temperature, clock) come from a :class:`Moment`.
"""

from __future__ import annotations

import shlex
from dataclasses import dataclass

from android_bench.virtual_phone.faults import FaultPlan

VIRTUAL_PROPERTY = "ro.nasflow.virtual"


@dataclass(frozen=True)
class Cluster:
    """Cores that share one clock; frequencies in kHz."""

    cores: tuple[int, ...]
    min_khz: int
    max_khz: int


@dataclass(frozen=True)
class PhoneDescription:
    """What does not change while a phone runs.

    ``run_us``, where it is not 0, stands in for the time that a run of a model takes here: from that to
    twice as many microseconds, the same for the same model. Two equal measurements then give equal numbers.
    """

    model: str = "Pixel 8 Pro"
    brand: str = "google"
    product: str = "husky"
    soc_manufacturer: str = "Google"
    soc_model: str = "Tensor G3"
    platform: str = "zuma"
    abi: str = "arm64-v8a"
    sdk: int = 34
    release: str = "14"
    build_id: str = "UQ1A.240105.004"
    incremental: str = "11206848"
    serial: str = "VIRTUAL0000001"
    clusters: tuple[Cluster, ...] = (
        Cluster((0, 1, 2, 3), 324_000, 1_704_000),
        Cluster((4, 5, 6, 7), 402_000, 2_367_000),
        Cluster((8,), 500_000, 2_914_000),
    )
    battery_percent: int = 94
    skin_celsius: float = 28.4
    battery_celsius: float = 28.0
    tool: str = "classic"
    run_us: int = 0

    @property
    def cores(self) -> int:
        """How many there are."""
        return sum(len(cluster.cores) for cluster in self.clusters)

    def properties(self, abi: str = "") -> dict[str, str]:
        """Android's system properties; ``abi`` stands in for the described one."""
        chosen = abi or self.abi
        build = (
            f"{self.brand}/{self.product}/{self.product}:{self.release}/{self.build_id}/{self.incremental}"
        )
        return {
            "ro.board.platform": self.platform,
            "ro.boot.serialno": self.serial,
            "ro.build.fingerprint": f"{build}:user/release-keys",
            "ro.build.id": self.build_id,
            "ro.build.version.incremental": self.incremental,
            "ro.build.version.release": self.release,
            "ro.build.version.sdk": str(self.sdk),
            "ro.hardware": self.platform,
            "ro.hardware.chipname": "",
            VIRTUAL_PROPERTY: "true",
            "ro.product.brand": self.brand,
            "ro.product.cpu.abi": chosen,
            "ro.product.cpu.abilist": chosen,
            "ro.product.device": self.product,
            "ro.product.manufacturer": self.brand.capitalize(),
            "ro.product.model": self.model,
            "ro.product.name": self.product,
            "ro.serialno": self.serial,
            "ro.soc.manufacturer": self.soc_manufacturer,
            "ro.soc.model": self.soc_model,
            "sys.boot_completed": "1",
        }


@dataclass(frozen=True)
class Moment:
    """A phone's state now. ``slowdown`` holds throttling and drift; ``clock_share`` lowers clocks, too."""

    uptime_s: float
    boot_id: str
    slowdown: float
    plan: FaultPlan
    clock_share: float = 1.0


def device_files(description: PhoneDescription, moment: Moment) -> dict[str, str]:
    """Relative path and content of everything that is read from files."""
    plan = moment.plan
    properties = description.properties(plan.abi)
    files = {f"properties/{name}": value + "\n" for name, value in properties.items()}
    files["getprop"] = "".join(f"[{name}]: [{value}]\n" for name, value in sorted(properties.items()))
    files["thermalservice"] = thermalservice(description, plan)
    files["battery"] = battery(description, plan)
    files["switches"] = switches(moment)
    files["cpuinfo"] = "".join(
        f"processor\t: {core}\nBogoMIPS\t: 49.15\n\n" for core in range(description.cores)
    )
    for cluster in description.clusters:
        folder = f"cpufreq/policy{cluster.cores[0]}"
        now = max(cluster.min_khz, round(cluster.max_khz * moment.clock_share / max(1.0, plan.slowdown)))
        files |= {
            f"{folder}/related_cpus": " ".join(map(str, cluster.cores)) + "\n",
            f"{folder}/affected_cpus": " ".join(map(str, cluster.cores)) + "\n",
            f"{folder}/cpuinfo_min_freq": f"{cluster.min_khz}\n",
            f"{folder}/cpuinfo_max_freq": f"{cluster.max_khz}\n",
            f"{folder}/scaling_min_freq": f"{cluster.min_khz}\n",
            f"{folder}/scaling_max_freq": f"{now}\n",
            f"{folder}/scaling_cur_freq": f"{now}\n",
            f"{folder}/scaling_governor": "sched_pixel\n",
        }
    return files


def uptime(description: PhoneDescription, seconds: float) -> str:
    """``/proc/uptime``: seconds since boot, and seconds that the cores idled."""
    return f"{seconds:.2f} {seconds * description.cores * 0.9:.2f}\n"


def thermalservice(description: PhoneDescription, plan: FaultPlan) -> str:
    """``dumpsys thermalservice``."""
    status = plan.thermal_status
    skin = plan.skin_celsius
    if skin is None:
        skin = description.skin_celsius if status == 0 else 36.0 + 4.0 * status
    sensors = (
        f"\tTemperature{{mValue={skin}, mType=3, mName=VIRTUAL-SKIN, mStatus={status}}}\n"
        f"\tTemperature{{mValue={description.battery_celsius}, mType=2, mName=battery, mStatus=0}}\n"
    )
    coolers = [
        f"\tCoolingDevice{{mValue={2 * status}, mType=2, mName=thermal-cpufreq-{index}}}\n"
        for index in range(len(description.clusters))
    ]
    return (
        f"IsStatusOverride: {str(plan.thermal_override).lower()}\n"
        "ThermalEventListeners:\n\tcallbacks: 1\n\tkilled: false\n\tbroadcasts count: -1\n"
        "ThermalStatusListeners:\n\tcallbacks: 4\n\tkilled: false\n\tbroadcasts count: -1\n"
        f"Thermal Status: {status}\n"
        "Cached temperatures:\n"
        "\tTemperature{mValue=0.0, mType=3, mName=VIRTUAL-SKIN, mStatus=0}\n"
        "HAL Ready: true\nHAL connection:\n\tThermalHAL AIDL 1  connected: yes\n"
        f"Current temperatures from HAL:\n{sensors}"
        f"Current cooling devices from HAL:\n{''.join(coolers)}"
        "Temperature static thresholds from HAL:\n"
        "\t{.type = SKIN, .name = VIRTUAL-SKIN, "
        ".hotThrottlingThresholds = [NaN, 39.0, 43.0, 45.0, 46.5, 52.0, 55.0], "
        ".coldThrottlingThresholds = [NaN, NaN, NaN, NaN, NaN, NaN, NaN], .vrThrottlingThreshold = NaN}\n"
    )


def switches(moment: Moment) -> str:
    """What :mod:`~android_bench.virtual_phone.guest_commands` decides by, as the shell's variables."""
    plan = moment.plan
    after = "" if plan.sleeps_after_s is None else str(round(100 * plan.sleeps_after_s))
    values = {
        "refuse_settings": int(plan.refuse_settings),
        "refuse_input": int(plan.refuse_input),
        "refuse_fixed_performance": int(plan.refuse_fixed_performance),
        "stays_asleep": int(plan.stays_asleep),
        "sleeps_after_cs": after,
        "lock_screen": int(plan.lock_screen),
        "plugged": int(not plan.unplugged),
        "missing": "".join(f" {name} " for name in plan.missing_services),
        "set_at_cs": round(100 * moment.uptime_s),
    }
    return "".join(f"{name}={shlex.quote(str(value))}\n" for name, value in values.items())


def battery(description: PhoneDescription, plan: FaultPlan) -> str:
    """``dumpsys battery``: AOSP ``BatteryService.dumpInternal`` and ``battery.txt`` of the tests' fixtures.

    Without a battery its values are zero (AOSP healthd ``BatteryMonitor``: no file reads as 0).
    """
    if plan.no_battery:
        return (
            "Current Battery Service state:\n"
            "  AC powered: true\n  USB powered: false\n  Wireless powered: false\n  Dock powered: false\n"
            "  Max charging current: 0\n  Max charging voltage: 0\n"
            "  Charge counter: 0\n  status: 1\n  health: 1\n  present: false\n"
            "  level: 0\n  scale: 100\n  voltage: 0\n  temperature: 0\n  technology: \n"
        )
    level = description.battery_percent if plan.battery_percent is None else plan.battery_percent
    stopped = "  (UPDATES STOPPED -- use 'reset' to restart)\n" if plan.battery_updates_stopped else ""
    return (
        f"Current Battery Service state:\n{stopped}"
        f"  AC powered: false\n  USB powered: {str(not plan.unplugged).lower()}\n"
        "  Wireless powered: false\n  Dock powered: false\n"
        "  Max charging current: 500000\n  Max charging voltage: 5000000\n"
        f"  Charge counter: {level * 48_000}\n  status: {3 if plan.unplugged else 2}\n"
        "  health: 2\n  present: true\n"
        f"  level: {level}\n  scale: 100\n  voltage: {3_500 + 8 * level}\n"
        f"  temperature: {round(description.battery_celsius * 10)}\n  technology: Li-ion\n"
    )
