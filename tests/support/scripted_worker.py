"""A worker that has no runtime: ``python scripted_worker.py JSON`` answers each operation as the JSON says.

``load`` is answered as by any worker. ``as_asked`` in the reply to ``benchmark`` names a field of the
question that comes back as the median: so a test sees it.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from android_bench.local.serving import serve


def main() -> None:
    replies: dict[str, Any] = json.loads(sys.argv[1])
    loaded = set[str]()

    def answer(request: dict[str, Any], _payload: bytes) -> tuple[dict[str, Any], bytes]:
        operation, model = request["op"], request.get("model", "")
        if operation == "load":
            loaded.add(model)
            return {}, b""
        if model and model not in loaded:
            return {"unknown": True}, b""
        reply = dict(replies[operation])
        if operation == "benchmark" and "as_asked" in reply:
            reply["median_ms"] = request[reply.pop("as_asked")]
        return reply, b""

    serve(answer)


if __name__ == "__main__":
    main()
