"""An Android library (AAR) that holds a network as assets and nothing else.

What such an archive must hold: Android's page "Anatomy of an AAR file"; ``aar-metadata.properties`` as the
Android Gradle plugin writes it for a library that asks nothing of its user.
"""

from __future__ import annotations

from collections.abc import Mapping

from stages.packaging.archive import zip_archive
from stages.packaging.coordinates import Coordinates

MODEL_ASSET, LABELS_ASSET, NOTICE_ASSET = "model.tflite", "labels.txt", "NOTICE.txt"
MIN_SDK = 21
_METADATA = "META-INF/com/android/build/gradle/aar-metadata.properties"
_METADATA_LINES = (
    "aarFormatVersion=1.0",
    "aarMetadataVersion=1.0",
    "minCompileSdk=1",
    "minCompileSdkExtension=0",
    "minAndroidGradlePluginVersion=1.0.0",
)


def asset_path(coordinates: Coordinates, name: str) -> str:
    """Where an app finds a file of the package among its assets: two packages do not meet there."""
    return f"{coordinates.name}/{name}"


def android_archive(coordinates: Coordinates, assets: Mapping[str, bytes]) -> bytes:
    """The library with these assets, by their names; nothing in it is compressed."""
    manifest = (
        '<?xml version="1.0" encoding="utf-8"?>\n'
        '<manifest xmlns:android="http://schemas.android.com/apk/res/android"\n'
        f'    package="{coordinates.android_package}">\n'
        f'    <uses-sdk android:minSdkVersion="{MIN_SDK}" />\n'
        "</manifest>\n"
    )
    files = {
        "AndroidManifest.xml": manifest.encode(),
        "R.txt": b"",
        _METADATA: "".join(f"{line}\n" for line in _METADATA_LINES).encode(),
        "classes.jar": zip_archive({"META-INF/MANIFEST.MF": b"Manifest-Version: 1.0\r\n\r\n"}),
        **{f"assets/{asset_path(coordinates, name)}": content for name, content in assets.items()},
    }
    return zip_archive(files)
