"""A phone without a phone: an ADB daemon on loopback whose shell is confined to a sandbox folder.

It speaks the real protocol, so that Google's own ``adb`` and this package's transports use it unchanged.
Start one with :func:`android_bench.virtual_phone.phone.running_phone` (a context manager that yields the
phone: its ``port``, its ``faults``, ``reboot()``), or serve one until told to stop with
:func:`android_bench.virtual_phone.phone.serve`::

    with running_phone() as phone:
        subprocess.run(["adb", "connect", f"127.0.0.1:{phone.port}"])

Inside the sandbox run ``guest`` (starts commands, moves files) and ``benchmark_tool`` (times models).
"""
