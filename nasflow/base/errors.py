"""Every error that nasflow raises on purpose, its exit code and its hint.

::

    NasflowError
      GateFailedError .............  1  what is asked for needs a gate that was passed
      UsageError ..................  2  the command line or the configuration is wrong
        ConfigError                     ... at one key of one file
        InfeasibleTargetError           ... no network of the space meets the latency target
      InconclusiveError ...........  3  the measurement does not decide
      NoUsableDeviceError .........  4  none, several, not authorised, wrong ABI, too hot
      DeviceError .................  5  the device went away, or its answer cannot be used
        DeviceLostError                 ... the connection broke or fell silent
        KilledByPhoneError              ... the phone killed the program that measures
        BadMeasurementError             ... 0, NaN or negative time
      ConversionError .............  6  the TFLite model cannot be made, or does not compute the same
      IntegrityError ..............  7  a file is not what its hash says
      MachineError ................  8  disk, permission, lock, data set
        DatasetMissingError
        StoreLockedError
      TrainingDivergedError .......  9  a loss is no longer a number
      RunInterruptedError ......... 130 SIGINT (143: SIGTERM)

Exit code 0 is success (also an ungated verdict), 1 a gate that failed, 70 an unexpected
exception: that one is our bug and shows its traceback.
"""

from __future__ import annotations

from typing import ClassVar


class NasflowError(Exception):
    """Base of all errors that a user can do something about.

    ``message`` says what happened and the value seen, ``hint`` what to do about it. ``raw`` keeps a
    device's or a tool's own words, for the log; it is not shown on the one line that the user reads.
    """

    exit_code: ClassVar[int] = 70
    reference: ClassVar[str] = "unexpected"
    """A stable name for programs and for the troubleshooting page."""

    def __init__(self, message: str, *, hint: str = "", raw: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint
        self.raw = raw

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()


class UsageError(NasflowError):
    """The command line or the configuration asks for something impossible."""

    reference = "usage"
    exit_code = 2


class ConfigError(UsageError):
    """One key of the configuration is unknown, of the wrong type or out of range."""

    reference = "configuration"

    def __init__(self, message: str, *, source: str, key: str, value: object = None, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.source = source
        self.key = key
        self.value = value


class InfeasibleTargetError(UsageError):
    """No network of the search space meets the latency target."""

    reference = "infeasible-target"


class GateFailedError(NasflowError):
    """The run's gate failed, and what is asked for needs one that was passed."""

    reference = "gate-failed"
    exit_code = 1


class InconclusiveError(NasflowError):
    """The measurement's interval holds both answers."""

    reference = "inconclusive"
    exit_code = 3


class NoUsableDeviceError(NasflowError):
    """No device can be measured on: none, several, not authorised, wrong ABI, battery, heat."""

    reference = "no-usable-device"
    exit_code = 4


class DeviceError(NasflowError):
    """The device was lost, or its answer cannot be used."""

    reference = "device"
    exit_code = 5


class DeviceLostError(DeviceError):
    """The connection to a device broke, or fell silent. What was measured until then is kept."""

    reference = "device-lost"


class KilledByPhoneError(DeviceError):
    """The phone killed the program that measures, most often because of low memory; it may not recur."""

    reference = "killed-by-phone"


class BadMeasurementError(DeviceError):
    """A device reported a latency that no network can have: 0, negative or not a number."""

    reference = "bad-measurement"


class ConversionError(NasflowError):
    """The TFLite model cannot be made, or does not compute what the PyTorch model computes."""

    reference = "conversion"
    exit_code = 6


class IntegrityError(NasflowError):
    """A file's content does not have the hash that its name or its record states."""

    reference = "integrity"
    exit_code = 7


class MachineError(NasflowError):
    """A fault of the machine: disk, permission, lock, data set, missing package."""

    reference = "machine"
    exit_code = 8


class DatasetMissingError(MachineError):
    """The images are not on this machine and cannot be fetched."""

    reference = "dataset-missing"


class StoreLockedError(MachineError):
    """Another run uses the same artifacts folder."""

    reference = "store-locked"


class TrainingDivergedError(NasflowError):
    """A loss became NaN or infinite; the last good checkpoint is kept."""

    reference = "training-diverged"
    exit_code = 9

    def __init__(self, message: str, *, step: int, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.step = step


class RunInterruptedError(NasflowError):
    """A signal asked the run to stop; everything finished so far is kept."""

    reference = "interrupted"

    def __init__(self, message: str, *, signal_number: int, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.signal_number = signal_number

    @property
    def code(self) -> int:
        """128 + signal number: 130 for SIGINT, 143 for SIGTERM."""
        return 128 + self.signal_number
