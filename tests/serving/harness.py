"""A process without Keras that serves SavedModels: TensorFlow's C API by ctypes, behind TF Serving's REST and gRPC.

    python -m tests.serving.harness --base=models/resnet20 --rest_port=8501 --grpc_port=8500

It stands in for TensorFlow Serving in tests and does not replace it: it loads versions with the call that TensorFlow
Serving uses (`LoadSavedModel` with the tag `serve`), polls the base path, loads a new version before it drops the old
one, and follows TensorFlow Serving's rules for requests (row and column format, b64, equal batch sizes, status codes).
"""

from __future__ import annotations

import argparse
import base64
import ctypes
import http.server
import importlib.util
import json
import pathlib
import re
import sys
import threading
import time

import numpy as np

DTYPES = {1: np.float32, 2: np.float64, 3: np.int32, 4: np.uint8, 7: object, 9: np.int64, 10: np.bool_}
"""Numbers of `tensorflow.DataType`; 7 is a string."""

HTTP_STATUS = {3: 400, 5: 404, 8: 429, 9: 400, 11: 400, 12: 501, 14: 503}
"""Numbers of `TF_Code` -> HTTP, as TF Serving's http_server.cc has them; 500 for others."""

_PACKAGE = pathlib.Path(importlib.util.find_spec("tensorflow").origin).parent
_framework = ctypes.CDLL(str(_PACKAGE / "libtensorflow_framework.so.2"))
_tensorflow = ctypes.CDLL(str(_PACKAGE / "libtensorflow_cc.so.2"))


class _Output(ctypes.Structure):
    _fields_ = (("operation", ctypes.c_void_p), ("index", ctypes.c_int))


class _Buffer(ctypes.Structure):
    _fields_ = (("data", ctypes.c_void_p), ("length", ctypes.c_size_t), ("deallocator", ctypes.c_void_p))


def _function(name: str, result, *arguments):
    library = _framework if hasattr(_framework, name) else _tensorflow
    function = getattr(library, name)
    function.restype, function.argtypes = result, arguments
    return function


_p, _i, _s = ctypes.c_void_p, ctypes.c_int, ctypes.c_size_t
_new_status = _function("TF_NewStatus", _p)
_delete_status = _function("TF_DeleteStatus", None, _p)
_code = _function("TF_GetCode", _i, _p)
_message = _function("TF_Message", ctypes.c_char_p, _p)
_new_graph = _function("TF_NewGraph", _p)
_delete_graph = _function("TF_DeleteGraph", None, _p)
_new_options = _function("TF_NewSessionOptions", _p)
_delete_options = _function("TF_DeleteSessionOptions", None, _p)
_new_buffer = _function("TF_NewBuffer", ctypes.POINTER(_Buffer))
_delete_buffer = _function("TF_DeleteBuffer", None, ctypes.POINTER(_Buffer))
_load = _function("TF_LoadSessionFromSavedModel", _p, _p, _p, ctypes.c_char_p, _p, _i, _p, _p, _p)
_close_session = _function("TF_CloseSession", None, _p, _p)
_delete_session = _function("TF_DeleteSession", None, _p, _p)
_run = _function("TF_SessionRun", None, _p, _p, _p, _p, _i, _p, _p, _i, _p, _i, _p, _p)
_operation = _function("TF_GraphOperationByName", _p, _p, ctypes.c_char_p)
_allocate = _function("TF_AllocateTensor", _p, _i, _p, _i, _s)
_delete_tensor = _function("TF_DeleteTensor", None, _p)
_data = _function("TF_TensorData", _p, _p)
_type = _function("TF_TensorType", _i, _p)
_rank = _function("TF_NumDims", _i, _p)
_side = _function("TF_Dim", ctypes.c_int64, _p, _i)
_string_init = _function("TF_StringInit", None, _p)
_string_copy = _function("TF_StringCopy", None, _p, ctypes.c_char_p, _s)
_string_data = _function("TF_StringGetDataPointer", _p, _p)
_string_size = _function("TF_StringGetSize", _s, _p)
_STRING_BYTES = 24


class ServingError(Exception):
    """An error of TensorFlow or of a request: a code of `TF_Code` and a message."""

    def __init__(self, code: int, message: str):
        super().__init__(message)
        self.code = code


class _Status:
    """A TF_Status that raises when a `with` block ends in an error."""

    def __enter__(self):
        self.pointer = _new_status()
        return self.pointer

    def __exit__(self, *_):
        code, message = _code(self.pointer), _message(self.pointer).decode(errors="replace")
        _delete_status(self.pointer)
        if code:
            raise ServingError(code, message)


# The part of the wire format of protocol buffers that is used here.


def fields(message: bytes):
    """Yield (number, value) of a message; values are integers or bytes."""
    at = 0

    def varint():
        nonlocal at
        value = shift = 0
        while True:
            byte = message[at]
            at += 1
            value |= (byte & 127) << shift
            shift += 7
            if byte < 128:
                return value

    while at < len(message):
        key = varint()
        kind = key & 7
        if kind == 0:
            yield key >> 3, varint()
            continue
        length = varint() if kind == 2 else {1: 8, 5: 4}[kind]
        yield key >> 3, message[at : at + length]
        at += length


def _one(message: bytes, number: int, default=b""):
    return next((value for n, value in fields(message) if n == number), default)


def _map(message: bytes, number: int) -> dict[str, bytes]:
    return {_one(value, 1).decode(): _one(value, 2) for n, value in fields(message) if n == number}


def _field(number: int, value: int | bytes) -> bytes:
    def varint(value):
        result = b""
        while value > 127:
            result += bytes([value & 127 | 128])
            value >>= 7
        return result + bytes([value])

    if isinstance(value, int):
        return varint(number << 3) + varint(value)
    return varint(number << 3 | 2) + varint(len(value)) + value


def _shape(message: bytes) -> list[int | None]:
    """TensorShapeProto -> sides; None where one is free."""
    sides = [_one(value, 1, 0) for n, value in fields(message) if n == 2]
    return [None if side >= 2**63 else side for side in sides]


def tensor_from_proto(message: bytes) -> np.ndarray:
    """TensorProto -> array."""
    dtype, shape = DTYPES[_one(message, 1)], _shape(_one(message, 2))
    if dtype is object:
        values = np.array([value for n, value in fields(message) if n == 8] + [None], object)[:-1]
        return values.reshape(shape)
    content = _one(message, 4)
    if not content and dtype is np.float32:
        content = b"".join(value for n, value in fields(message) if n == 5)
    return np.frombuffer(content, dtype).reshape(shape)


def tensor_to_proto(array: np.ndarray) -> bytes:
    """Array -> TensorProto."""
    number = next(number for number, dtype in DTYPES.items() if np.dtype(dtype) == array.dtype)
    head = _field(1, number) + _field(2, b"".join(_field(2, _field(1, side)) for side in array.shape))
    if array.dtype == object:
        return head + b"".join(_field(8, value) for value in array.ravel())
    # Like TensorFlow Serving, in the field of the type and not in `tensor_content`.
    return head + _field(5 if array.dtype == np.float32 else 4, np.ascontiguousarray(array).tobytes())


class Tensor:
    """Name in the graph, dtype and shape of an input or output of a signature."""

    def __init__(self, info: bytes):
        name, index = _one(info, 1).decode().split(":")
        self.operation, self.index = name.encode(), int(index)
        self.number = _one(info, 2)
        self.shape = _shape(_one(info, 3))

    @property
    def dtype(self) -> str:
        return "string" if self.number == 7 else np.dtype(DTYPES[self.number]).name


class Model:
    """A SavedModel loaded by `TF_LoadSessionFromSavedModel`.

    Attributes:
        signatures: name -> (inputs, outputs), each a dictionary from names to `Tensor`.
    """

    def __init__(self, path):
        tags, options, meta = (ctypes.c_char_p * 1)(b"serve"), _new_options(), _new_buffer()
        self._graph = _new_graph()
        self._session = None
        try:
            with _Status() as status:
                self._session = _load(options, None, str(path).encode(), tags, 1, self._graph, meta, status)
            graph = ctypes.string_at(meta.contents.data, meta.contents.length)
        finally:
            _delete_buffer(meta)
            _delete_options(options)
        self.signatures = {
            name: tuple({key: Tensor(info) for key, info in _map(signature, n).items()} for n in (1, 2))
            for name, signature in _map(graph, 5).items()
            if name != "__saved_model_init_op"
        }

    def run(self, signature: str, inputs: dict[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Run a signature; string tensors are object arrays of bytes."""
        if signature not in self.signatures:
            raise ServingError(9, f"no signature {signature!r}")
        wanted, results = self.signatures[signature]
        if set(inputs) != set(wanted):
            raise ServingError(3, f"inputs must be {sorted(wanted)}; got {sorted(inputs)}")
        fed, values = (_Output * len(inputs))(), (_p * len(inputs))()
        fetched, outputs = (_Output * len(results))(), (_p * len(results))()
        try:
            for at, (name, array) in enumerate(inputs.items()):
                fed[at] = self._place(wanted[name])
                values[at] = _to_tensor(array, wanted[name].number)
            for at, tensor in enumerate(results.values()):
                fetched[at] = self._place(tensor)
            with _Status() as status:
                _run(
                    *(self._session, None, fed, values, len(inputs)),
                    *(fetched, outputs, len(results), None, 0, None, status),
                )
            return {name: _to_array(pointer) for name, pointer in zip(results, outputs, strict=True)}
        finally:
            for pointer in (*values, *outputs):
                if pointer:
                    _delete_tensor(pointer)

    def _place(self, tensor: Tensor) -> _Output:
        return _Output(_operation(self._graph, tensor.operation), tensor.index)

    def __del__(self):
        if self._session:
            with _Status() as status:
                _close_session(self._session, status)
            with _Status() as status:
                _delete_session(self._session, status)
        _delete_graph(self._graph)


def _to_tensor(array: np.ndarray, number: int) -> int:
    array = np.ascontiguousarray(array, DTYPES[number])
    shape = (ctypes.c_int64 * array.ndim)(*array.shape)
    bytes_ = array.size * _STRING_BYTES if number == 7 else array.nbytes
    pointer = _allocate(number, shape, array.ndim, bytes_)
    data = _data(pointer)
    if number == 7:
        for at, value in enumerate(array.ravel()):
            _string_init(data + at * _STRING_BYTES)
            _string_copy(data + at * _STRING_BYTES, value, len(value))
    else:
        ctypes.memmove(data, array.ctypes.data, array.nbytes)
    return pointer


def _to_array(pointer: int) -> np.ndarray:
    shape = [_side(pointer, axis) for axis in range(_rank(pointer))]
    dtype, data = DTYPES[_type(pointer)], _data(pointer)
    array = np.empty(shape, dtype)
    if dtype is object:
        places = range(data or 0, (data or 0) + array.size * _STRING_BYTES, _STRING_BYTES)
        flat = [ctypes.string_at(_string_data(at), _string_size(at)) for at in places]
        array.ravel()[:] = flat
    elif array.size:
        ctypes.memmove(array.ctypes.data, data, array.nbytes)
    return array


# Serving: versions, and requests by the rules of TensorFlow Serving.


class Versions:
    """Watches a base path and holds its newest version, which is loaded before the previous one is dropped."""

    def __init__(self, base, poll_seconds: float = 0.2):
        self.base = pathlib.Path(base)
        self.current: tuple[int, Model] | None = None
        self.loads: list[int] = []
        self.failures: list[str] = []
        self._poll()
        threading.Thread(target=self._watch, args=(poll_seconds,), daemon=True).start()

    def _watch(self, seconds: float) -> None:
        while True:
            time.sleep(seconds)
            self._poll()

    def _poll(self) -> None:
        names = [path.name for path in self.base.iterdir()] if self.base.is_dir() else []
        newest = max((int(name) for name in names if re.fullmatch(r"\d+", name)), default=None)
        if newest is None or (self.current and newest <= self.current[0]):
            return
        try:
            self.current = newest, Model(self.base / str(newest))
            self.loads.append(newest)
        except ServingError as error:
            self.failures.append(f"version {newest}: {error}")

    def get(self, version: int | None) -> tuple[int, Model]:
        if self.current is None or version not in (None, self.current[0]):
            raise ServingError(5, f"version {version} of {self.base.name} is not loaded")
        return self.current


def _decode_json(value):
    """JSON -> nested lists with bytes for {"b64": ...}."""
    if isinstance(value, dict):
        if set(value) != {"b64"}:
            raise ServingError(3, f"an object in a tensor must be {{'b64': ...}}; got keys {sorted(value)}")
        try:
            return base64.b64decode(value["b64"], validate=True)
        except (ValueError, TypeError) as error:
            raise ServingError(3, f"a value of 'b64' must be base64: {error}") from error
    if isinstance(value, list):
        return [_decode_json(item) for item in value]
    return value.encode() if isinstance(value, str) else value


def _json_to_array(value, tensor: Tensor) -> np.ndarray:
    value = _decode_json(value)
    try:
        if tensor.number != 7:
            array = np.array(value)
            if array.dtype.kind not in "iuf" or (array != array.astype(DTYPES[tensor.number])).any():
                raise ValueError(f"values of type {array.dtype}")
            array = array.astype(DTYPES[tensor.number])
        else:
            shape, inner = [], value
            while isinstance(inner, list):
                shape.append(len(inner))
                inner = inner[0] if inner else None
            flat = [value] if not shape else value
            for _ in shape[1:]:
                flat = [item for part in flat for item in part]
            if not all(isinstance(item, bytes) for item in flat):
                raise ValueError("values that are not strings")
            array = np.array([*flat, None], object)[:-1].reshape(shape)
    except (ValueError, TypeError, OverflowError) as error:
        raise ServingError(3, f"a tensor of {tensor.dtype} cannot be made of this: {error}") from error
    if array.ndim != len(tensor.shape):
        raise ServingError(3, f"a tensor must have {len(tensor.shape)} dimensions; got {array.ndim}")
    return array


def predict_json(model: Model, body: bytes) -> dict:
    """Answer the body of a REST request, row format (`instances`) or column format (`inputs`)."""
    try:
        request = json.loads(body)
    except ValueError as error:
        raise ServingError(3, f"the body is not JSON: {error}") from error
    if not isinstance(request, dict) or ("instances" in request) == ("inputs" in request):
        raise ServingError(3, "the body must have either 'instances' or 'inputs'")
    signature = request.get("signature_name", "serving_default")
    if signature not in model.signatures:
        raise ServingError(9, f"no signature {signature!r}")
    wanted = model.signatures[signature][0]
    rows = "instances" in request
    values = request["instances" if rows else "inputs"]
    if rows:
        if not isinstance(values, list) or not values:
            raise ServingError(3, "'instances' must be a list that is not empty")
        named = [isinstance(row, dict) and set(row) != {"b64"} for row in values]
        if any(named):
            if not all(named) or any(set(row) != set(wanted) for row in values):
                raise ServingError(3, f"each instance must have the keys {sorted(wanted)}")
            values = {name: [row[name] for row in values] for name in wanted}
    if not isinstance(values, dict) or set(values) == {"b64"}:
        if len(wanted) != 1:
            raise ServingError(3, f"inputs must be named: {sorted(wanted)}")
        values = {next(iter(wanted)): values}
    if set(values) != set(wanted):
        raise ServingError(3, f"inputs must be {sorted(wanted)}; got {sorted(values)}")
    outputs = model.run(signature, {name: _json_to_array(values[name], wanted[name]) for name in wanted})
    lists = {name: _text(array) for name, array in outputs.items()}
    if not rows:
        return {"outputs": lists if len(lists) > 1 else next(iter(lists.values()))}
    if len(lists) == 1:
        return {"predictions": next(iter(lists.values()))}
    return {"predictions": [dict(zip(lists, row, strict=True)) for row in zip(*lists.values(), strict=True)]}


def _text(array: np.ndarray) -> list:
    if array.dtype != object:
        return array.tolist()
    return np.array([value.decode() for value in array.ravel()], object).reshape(array.shape).tolist()


def predict_proto(versions: Versions, request: bytes) -> bytes:
    """Answer a serialized PredictRequest with a serialized PredictResponse."""
    spec = _one(request, 1)
    asked = _one(_one(spec, 2), 1, 0)
    version, model = versions.get(asked or None)
    signature = _one(spec, 3).decode() or "serving_default"
    inputs = {name: tensor_from_proto(value) for name, value in _map(request, 2).items()}
    outputs = model.run(signature, inputs)
    answer = b"".join(
        _field(1, _field(1, name.encode()) + _field(2, tensor_to_proto(value))) for name, value in outputs.items()
    )
    own = _field(1, _one(spec, 1)) + _field(2, _field(1, version)) + _field(3, signature.encode())
    return answer + _field(2, own)


def _handler(versions: Versions):
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def answer(self, status: int, body: dict, version: int | None = None) -> None:
            content = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            if version is not None:
                self.send_header("X-Version", str(version))
            self.end_headers()
            self.wfile.write(content)

        def do_GET(self):
            if self.path.endswith("/metrics"):
                usage = pathlib.Path("/proc/self/status").read_text(encoding="utf-8")
                resident = int(re.search(r"VmRSS:\s+(\d+)", usage).group(1))
                self.answer(
                    200,
                    {
                        "resident_kib": resident,
                        "loads": versions.loads,
                        "failures": versions.failures,
                        "keras": [name for name in sys.modules if name.split(".")[0] in ("keras", "tensorflow")],
                    },
                )
            elif self.path == f"/v1/models/{versions.base.name}" and versions.current:
                status = {"version": str(versions.current[0]), "state": "AVAILABLE"}
                self.answer(200, {"model_version_status": [status]})
            else:
                self.answer(404, {"error": f"there is no {self.path}"})

        def do_POST(self):
            body = self.rfile.read(int(self.headers["Content-Length"]))
            match = re.fullmatch(rf"/v1/models/{re.escape(versions.base.name)}(?:/versions/(\d+))?:predict", self.path)
            try:
                if not match:
                    raise ServingError(5, f"there is no {self.path}")
                version, model = versions.get(int(match.group(1)) if match.group(1) else None)
                self.answer(200, predict_json(model, body), version)
            except ServingError as error:
                self.answer(HTTP_STATUS.get(error.code, 500), {"error": str(error)})

        def log_message(self, *_):
            pass

    return Handler


def serve_rest(versions: Versions, port: int) -> int:
    """Answer REST requests in new threads; return the port."""

    class Server(http.server.ThreadingHTTPServer):
        request_queue_size = 128

    server = Server(("127.0.0.1", port), _handler(versions))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    return server.server_port


def serve_grpc(versions: Versions, port: int) -> int:
    """Answer `PredictionService/Predict`; return the port."""
    from concurrent import futures

    import grpc

    codes = {code.value[0]: code for code in grpc.StatusCode}

    def predict(request, context):
        try:
            return predict_proto(versions, request)
        except ServingError as error:
            context.abort(codes[error.code], str(error))

    handlers = {"Predict": grpc.unary_unary_rpc_method_handler(predict)}
    server = grpc.server(futures.ThreadPoolExecutor(8))
    server.add_generic_rpc_handlers(
        [grpc.method_handlers_generic_handler("tensorflow.serving.PredictionService", handlers)]
    )
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    serve_grpc.running = server
    return port


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", required=True, help="Folder of the versions.")
    parser.add_argument("--rest_port", type=int, default=0)
    parser.add_argument("--grpc_port", type=int, default=0)
    parser.add_argument("--poll_seconds", type=float, default=0.2)
    arguments = parser.parse_args()
    versions = Versions(arguments.base, arguments.poll_seconds)
    rest, grpc_ = serve_rest(versions, arguments.rest_port), serve_grpc(versions, arguments.grpc_port)
    print(json.dumps({"rest_port": rest, "grpc_port": grpc_}), flush=True)
    threading.Event().wait()


if __name__ == "__main__":
    main()
