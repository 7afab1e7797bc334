"""The ways to a phone over ADB: its own daemon, and a running adb server."""
