"""Classify photos with TensorFlow Serving, over REST or gRPC. Requires neither TensorFlow nor keras_resnet.

    python examples/serving_client.py --rest=http://localhost:8501 --model=resnet20 PHOTO...
    python examples/serving_client.py --grpc=localhost:8500 --model=resnet20 PHOTO...      # pip install grpcio protobuf

The server decodes the photos: their bytes are sent unchanged. All photos are sent in one request, which fails as a
whole if one of them cannot be decoded.
"""

import argparse
import base64
import http.client
import json
import pathlib
import sys
import urllib.error
import urllib.request


def predict_rest(url: str, model: str, contents: list[bytes]) -> list[list[tuple[str, float]]]:
    """Return the best classes and their scores for each image file, over REST.

    Raises:
        RuntimeError: the server refuses the request or cannot be reached.
    """
    instances = [{"image_bytes": {"b64": base64.b64encode(content).decode()}} for content in contents]
    body = json.dumps({"signature_name": "serving_default", "instances": instances}).encode()
    headers = {"Content-Type": "application/json"}
    request = urllib.request.Request(f"{url}/v1/models/{model}:predict", body, headers)
    try:
        with urllib.request.urlopen(request, timeout=30) as response:
            predictions = json.load(response)["predictions"]
    except urllib.error.HTTPError as error:
        raise RuntimeError(_reason(error)) from error
    except (OSError, http.client.HTTPException) as error:
        raise RuntimeError(f"no answer from {url}: {error}") from error
    except (ValueError, KeyError, TypeError) as error:
        raise RuntimeError(f"the server at {url} is not TensorFlow Serving: {error!r}") from error
    return [list(zip(best["classes"], best["scores"], strict=True)) for best in predictions]


def _reason(error: urllib.error.HTTPError) -> str:
    """Return the error message of TensorFlow Serving, or the HTTP status of a proxy."""
    try:
        return json.load(error)["error"]
    except (ValueError, KeyError, TypeError):
        return f"{error.url}: HTTP status {error.code}, {error.reason}"


def predict_grpc(address: str, model: str, contents: list[bytes]) -> list[list[tuple[str, float]]]:
    """Return the same over gRPC, which sends the bytes without encoding them.

    Raises:
        RuntimeError: the server refuses the request or cannot be reached.
    """
    import grpc

    request_type, response_type = _messages()
    request = request_type()
    request.model_spec.name, request.model_spec.signature_name = model, "serving_default"
    tensor = request.inputs["image_bytes"]
    tensor.dtype = 7  # DT_STRING
    tensor.tensor_shape.dim.add(size=len(contents))
    tensor.string_val.extend(contents)
    with grpc.insecure_channel(address, options=[("grpc.max_send_message_length", -1)]) as channel:
        call = channel.unary_unary(
            "/tensorflow.serving.PredictionService/Predict",
            request_serializer=request_type.SerializeToString,
            response_deserializer=response_type.FromString,
        )
        try:
            outputs = call(request, timeout=30).outputs
        except grpc.RpcError as error:
            raise RuntimeError(error.details()) from error
    names = [name.decode() for name in outputs["classes"].string_val]
    pairs = list(zip(names, outputs["scores"].float_val, strict=True))
    top = outputs["scores"].tensor_shape.dim[1].size
    return [pairs[start : start + top] for start in range(0, len(pairs), top)]


def _messages():
    """Return PredictRequest and PredictResponse, with the fields of tensorflow_serving/apis and TensorProto used here.

    The package tensorflow-serving-api has them too, but requires TensorFlow.
    """
    from google.protobuf import descriptor_pb2, descriptor_pool, message_factory

    kinds = {"int32": 5, "int64": 3, "string": 9, "bytes": 12, "float": 2}
    messages = {
        "Dim": [("size", 1, "int64", False)],
        "TensorShape": [("dim", 2, "Dim", True)],
        "Tensor": [
            ("dtype", 1, "int32", False),
            ("tensor_shape", 2, "TensorShape", False),
            ("float_val", 5, "float", True),
            ("string_val", 8, "bytes", True),
        ],
        "ModelSpec": [("name", 1, "string", False), ("signature_name", 3, "string", False)],
        "PredictRequest": [("model_spec", 1, "ModelSpec", False), ("inputs", 2, "InputsEntry", True)],
        "PredictResponse": [("outputs", 1, "OutputsEntry", True)],
    }
    file = descriptor_pb2.FileDescriptorProto(name="predict.proto", package="client", syntax="proto3")
    for name, fields in messages.items():
        message = file.message_type.add(name=name)
        for field, number, kind, repeated in fields:
            added = message.field.add(name=field, number=number, label=3 if repeated else 1, type=kinds.get(kind, 11))
            if kind.endswith("Entry"):
                entry = message.nested_type.add(name=kind, options={"map_entry": True})
                entry.field.add(name="key", number=1, label=1, type=kinds["string"])
                entry.field.add(name="value", number=2, label=1, type=11, type_name=".client.Tensor")
                added.type_name = f".client.{name}.{kind}"
            elif kind not in kinds:
                added.type_name = f".client.{kind}"
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    descriptors = (pool.FindMessageTypeByName(f"client.{name}") for name in ("PredictRequest", "PredictResponse"))
    return tuple(message_factory.GetMessageClass(descriptor) for descriptor in descriptors)


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rest", default="http://localhost:8501", help="Address for REST.")
    parser.add_argument("--grpc", help="Address for gRPC, such as localhost:8500; used instead of REST.")
    parser.add_argument("--model", required=True, help="Name of the model in models.config.")
    parser.add_argument("photos", nargs="+", help="Image files.")
    arguments = parser.parse_args()
    try:
        contents = [pathlib.Path(photo).read_bytes() for photo in arguments.photos]
        if arguments.grpc:
            answers = predict_grpc(arguments.grpc, arguments.model, contents)
        else:
            answers = predict_rest(arguments.rest, arguments.model, contents)
    except (OSError, RuntimeError) as error:
        print(f"serving_client: {error}", file=sys.stderr)
        return 1
    for photo, best in zip(arguments.photos, answers, strict=True):
        print(f"{photo}: " + ", ".join(f"{name} {score:.3f}" for name, score in best))
    return 0


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        print("serving_client: interrupted", file=sys.stderr)
        sys.exit(130)
