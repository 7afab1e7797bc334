"""What a phone offers to compute with, from what phones print."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from android_bench.phone.conditions import CPUFREQ_COMMAND
from android_bench.phone.offers import (
    GPU_COMMAND,
    NPU_COMMAND,
    Offers,
    describe_clusters,
    offers_of,
    parse_gpu,
    parse_npu,
)
from android_bench.phone.text import parse_cpufreq

# Public logs: a Pixel 3 (Android 10), and phones of Huawei, itel and Oculus.
ADRENO = (
    "GLES: Qualcomm, Adreno (TM) 630, OpenGL ES 3.2 V@415.0 (GIT@34b6654, Id4a1c1aeea, 1569595379) "
    "(Date:09/27/19)\n"
)
MALI = "GLES: ARM, Mali-G76, OpenGL ES 3.2 v1.r18p0-01rel0.03a31fb463b14c043b85e5070853d58b\n"
TENSOR_G3 = "".join(
    f"policy{first}/related_cpus={cores}\npolicy{first}/cpuinfo_max_freq={khz}\n"
    for first, cores, khz in ((0, "0 1 2 3", 1704000), (4, "4 5 6 7", 2367000), (8, "8", 2914000))
)
QUALCOMM = "/vendor/lib64/libcdsprpc.so\n"
MEDIATEK = "/system_ext/lib64/libneuronusdk_adapter.mtk.so\n/vendor/lib64/libneuron_adapter_mgvi.so\n"


@pytest.mark.parametrize(
    ("line", "gpu"),
    [
        (ADRENO, "Adreno (TM) 630 (Qualcomm)"),
        (MALI, "Mali-G76 (ARM)"),
        ("GLES: ARM, Mali-G57 MC2, OpenGL ES 3.2 v1.r38p1\n", "Mali-G57 MC2 (ARM)"),
        (
            f" ------------RE GLES------------\nEGL implementation : 1.5\n{MALI}GL_OES_EGL_image\n",
            "Mali-G76 (ARM)",
        ),
        ("", ""),
        ("Can't find service: SurfaceFlinger\n", ""),
        ("GLES: ARM\n", ""),
        (" GLES: ARM, Mali, x\n", ""),
    ],
)
def test_the_gpu_is_what_surfaceflinger_calls_it(line: str, gpu: str) -> None:
    assert parse_gpu(line) == gpu


@pytest.mark.parametrize(
    ("listed", "npu"),
    [
        (QUALCOMM, "Qualcomm Hexagon"),
        (MEDIATEK, "MediaTek NeuroPilot"),
        (QUALCOMM + MEDIATEK, "Qualcomm Hexagon, MediaTek NeuroPilot"),
        ("", ""),
        ("ls: /vendor/lib64/libcdsprpc.so: No such file or directory\n", ""),
        ("/vendor/lib64/libcdsprpc.so.old\n", ""),
    ],
)
def test_the_npu_is_told_by_the_drivers_that_are_there(listed: str, npu: str) -> None:
    assert parse_npu(listed) == npu


def test_clusters_are_told_slowest_first() -> None:
    assert describe_clusters(parse_cpufreq(TENSOR_G3)) == "4 x 1.70 GHz, 4 x 2.37 GHz, 1 x 2.91 GHz"
    assert describe_clusters(parse_cpufreq("policy0/related_cpus=0 1\n")) == "2"
    assert describe_clusters(()) == ""


def test_each_command_is_asked_once_and_what_is_not_told_is_empty() -> None:
    texts = {CPUFREQ_COMMAND: TENSOR_G3, GPU_COMMAND: MALI, NPU_COMMAND: ""}
    asked = []

    def ask(words: tuple[str, ...]) -> str:
        asked.append(words)
        return texts[words]

    assert offers_of(ask) == Offers("4 x 1.70 GHz, 4 x 2.37 GHz, 1 x 2.91 GHz", "Mali-G76 (ARM)", "")
    assert sorted(asked) == sorted(texts)


@settings(max_examples=200)
@given(st.text(max_size=300))
def test_any_text_is_read_without_an_error_and_never_spans_lines(text: str) -> None:
    assert "\n" not in parse_gpu(f"GLES: {text}")
    assert parse_npu(text) in ("", "Qualcomm Hexagon", "MediaTek NeuroPilot")
