"""A small network as an ONNX file."""

from pathlib import Path
from typing import Any

import numpy as np


def write_colour(
    path: Path, factor: float, batch: str | int = "n", kept: int = 0, numbers_in: str | None = None
) -> Path:
    """Write a graph that yields the mean of each channel times a factor; return its path.

    The axes are `kept` or not. Its numbers are in the file, or in one beside it of that name.
    """
    import onnx  # an extra

    node, value = onnx.helper.make_node, onnx.helper.make_tensor_value_info
    kind: Any = onnx.TensorProto.FLOAT
    graph = onnx.helper.make_graph(
        [
            node("ReduceMean", ["images"], ["mean"], axes=[2, 3], keepdims=kept),
            node("Mul", ["mean", "factor"], ["features"]),
        ],
        "colour",
        [value("images", kind, [batch, 3, "h", "w"])],
        [value("features", kind, [batch, 3, *(["h", "w"] if kept else [])])],
        [onnx.numpy_helper.from_array(np.array([factor], np.float32), "factor")],
    )
    model = onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 13)], ir_version=9)
    if numbers_in is not None:
        (path.parent / numbers_in).unlink(missing_ok=True)  # onnx would append
        onnx.external_data_helper.convert_model_to_external_data(model, location=numbers_in, size_threshold=0)
    onnx.save(model, str(path))
    return path
