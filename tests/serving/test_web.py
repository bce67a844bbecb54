"""Pages that classify in the browser: scores and pixels as in Python, what the page shows, and the runtime from npm."""

import functools
import hashlib
import http.server
import json
import pathlib
import threading
from typing import ClassVar

import numpy as np
import pytest
import tensorflow as tf
from PIL import Image

from keras_resnet.classification.run import ClassifierRun
from keras_resnet.cli import main as cli
from keras_resnet.data import sources
from keras_resnet.data.transforms import NO_NORMALIZATION, EvalTransform
from keras_resnet.errors import InputError
from keras_resnet.evaluation import exported
from keras_resnet.serving import web
from tests.serving.sources import encoded

TOLERANCE = {"float32": 1e-3, "int8": 2 / 256}

CLASSIFY = """async (content) => {
  const {classify} = await import("/demo.js");
  const {scores, pixels} = await classify(await (await fetch(content)).blob());
  return {scores: [...scores], pixels: [...pixels]};
}"""

RESIZE = """async ([content, size, resize, exif]) => {
  const {cropWindow, decode, resizeWindow} = await import("/demo.js");
  const image = await decode(await (await fetch(content)).blob(), exif);
  return [...resizeWindow(image, cropWindow([image.height, image.width], size, resize), size)];
}"""


DROP = """async (content) => {
  const dataTransfer = new DataTransfer(), blob = await (await fetch(content)).blob();
  dataTransfer.items.add(new File([blob], "dropped.png"));
  document.body.dispatchEvent(new DragEvent("drop", {dataTransfer, bubbles: true}));
}"""


SLOW_CAMERA = """() => {
  const devices = navigator.mediaDevices, ask = devices.getUserMedia.bind(devices);
  globalThis.streams = [];
  devices.getUserMedia = async (options) => {
    const stream = await ask(options);
    streams.push(stream);
    await new Promise((done) => setTimeout(done, 300)); // the user reads the question
    return stream;
  };
}"""

LIVE = "() => streams.flatMap((stream) => stream.getTracks()).filter((track) => track.readyState === 'live').length"


class Quiet(http.server.SimpleHTTPRequestHandler):
    """Python's web server, without its log; files of `extra` are served too."""

    extra: ClassVar[dict[str, bytes]] = {}

    def log_message(self, *arguments):
        pass

    def do_GET(self):
        if self.path not in self.extra:
            return super().do_GET()
        self.send_response(200)
        self.end_headers()
        return self.wfile.write(self.extra[self.path])


@pytest.fixture(scope="module")
def litert():
    try:
        web.runtime()
    except InputError as error:
        pytest.skip(f"LiteRT.js cannot be installed: {error}")


@pytest.fixture(scope="module")
def site(litert, digits_run, tmp_path_factory):
    """Return the page's folder of a variant; it is written once."""
    pytest.importorskip("ai_edge_litert", reason="extra [tflite]")
    folder = tmp_path_factory.mktemp("sites")

    @functools.cache
    def write(variant):
        source, dataset = ClassifierRun.open(digits_run), sources.load("digits")
        return web.export(source, folder / variant, variant=variant, dataset=dataset, calibration_images=20)

    return write


@pytest.fixture
def servers():
    """The web servers of a test."""
    running = []
    yield running
    for server in running:
        server.shutdown()


@pytest.fixture
def serve(servers, open_page):
    """Return a function that serves a folder and opens its page, when that has loaded its network."""

    def call(folder, **options):
        server = http.server.ThreadingHTTPServer(("localhost", 0), functools.partial(Quiet, directory=str(folder)))
        threading.Thread(target=server.serve_forever, daemon=True).start()
        servers.append(server)
        address = f"http://localhost:{server.server_port}/"
        tab = open_page(address, (address, f"blob:{address}"), **options)
        tab.locator("#file:enabled").wait_for(state="attached")
        return tab

    return call


@pytest.fixture
def address_of(monkeypatch):
    """Return a function that serves the content of a file under an address."""
    monkeypatch.setattr(Quiet, "extra", {})

    def call(content):
        path = f"/images/{len(Quiet.extra)}"
        Quiet.extra[path] = content
        return path

    return call


def photo():
    """A photograph u8[427,640,3]."""
    from sklearn.datasets import load_sample_image

    return load_sample_image("china.jpg")


@pytest.mark.parametrize("variant", TOLERANCE)
def test_twenty_digits_and_a_photo_have_the_scores_of_the_file_in_python(variant, site, serve, address_of, digits_run):
    tab, network = serve(site(variant)), exported.tflite(site(variant) / f"resnet20_{variant}.tflite", threads=1)
    images = sources.load("digits").examples("test").images[:20]
    transform = EvalTransform.unnormalized(ClassifierRun.open(digits_run).photo_transform())
    found = set()
    for pixels in (*images, photo()):
        content = encoded(pixels)
        result = tab.evaluate(CLASSIFY, address_of(content))
        expected = exported.as_type(transform.decode(tf.constant(content)), "uint8")
        np.testing.assert_array_equal(np.reshape(result["pixels"], expected.shape), expected)
        (scores,) = network.function(expected[None])
        np.testing.assert_allclose(result["scores"], scores, atol=TOLERANCE[variant])
        assert np.argmax(result["scores"]) == scores.argmax()
        found.add(int(scores.argmax()))
    assert len(found) > 1


def jpeg(pixels, **options):
    return encoded(pixels, "JPEG", quality=90, **options)


def exif(orientation):
    tags = Image.Exif()
    tags[0x010E], tags[0x0112] = "a photo", orientation
    return tags.tobytes()


TALL = photo()[:, 100:301]

SITUATIONS = {
    "photo, 224 of 256": (encoded(photo()), (224, 224), 256, False),
    "upright photo": (encoded(TALL), (32, 32), 37, False),
    "enlarged": (encoded(photo()[:50, :70]), (64, 64), 73, False),
    "larger than a strip": (encoded(np.tile(TALL, (3, 3, 1))), (33, 33), 33, False),
    "cropped without resizing": (encoded(TALL), (24, 40), 0, False),
    "gray": (encoded(np.ascontiguousarray(photo()[..., 0])), (32, 32), 37, False),
    "JPEG": (jpeg(photo()), (64, 64), 73, False),
    "JPEG, orientation ignored": (jpeg(TALL, exif=exif(6)), (32, 32), 37, False),
    "JPEG, orientation applied": (jpeg(TALL, exif=exif(6)), (32, 32), 37, True),
    "JPEG, mirrored": (jpeg(TALL, exif=exif(5)), (32, 32), 37, True),
}


def test_photos_are_decoded_and_resized_as_in_python(site, serve, address_of):
    tab = serve(site("float32"))
    for name, (content, size, resize, upright) in SITUATIONS.items():
        transform = EvalTransform(size, *NO_NORMALIZATION, resize)
        if name.startswith("JPEG"):
            # Browsers decode JPEG files with the accurate arithmetic, TensorFlow by default with the fast one.
            pixels = tf.io.decode_jpeg(content, channels=3, dct_method="INTEGER_ACCURATE").numpy()
            pixels = np.rot90(pixels, -1) if upright else pixels
            pixels = pixels[:, ::-1] if "mirrored" in name else pixels
            expected = transform.crop(tf.constant(np.ascontiguousarray(pixels)))
        else:
            expected = transform.decode(tf.constant(content))
        expected = exported.as_type(expected, "uint8").astype(int)
        result = np.reshape(tab.evaluate(RESIZE, [address_of(content), size, resize, upright]), expected.shape)
        difference = np.abs(result - expected)
        assert difference.max() <= 1, name
        assert (difference > 0).mean() < 1e-3, f"{name}: only rounding"


@pytest.mark.parametrize(("width", "scheme"), [(1280, "light"), (390, "dark")], ids=["desktop", "dark phone"])
def test_the_page_shows_classes_and_times_of_files_and_the_camera(width, scheme, site, serve, address_of, tmp_path):
    tab = serve(site("int8"), viewport={"width": width, "height": 900}, color_scheme=scheme)
    assert tab.title() == "resnet20 for digits"
    assert "10 classes, int8, 0.3 MB. Images are classified in this browser" in tab.locator("#about").inner_text()
    path = tmp_path / "a & <b>.png"
    path.write_bytes(encoded(photo()))
    chosen = tab.get_by_label("Choose an image")
    chosen.focus()
    tab.keyboard.press("Tab")
    assert tab.get_by_role("button", name="Use the camera").evaluate("button => button === document.activeElement")
    with tab.expect_file_chooser() as chooser:
        chosen.press("Enter")
    chooser.value.set_files(path)
    tab.get_by_role("img", name="a & <b>.png").wait_for()
    items = tab.get_by_role("listitem")
    names, scores = zip(*(text.split("\n") for text in items.all_inner_texts()), strict=True)
    assert len(set(names)) == 5
    assert set(names) < set("0123456789")
    numbers = [float(score.removesuffix(" %")) for score in scores]
    assert numbers == sorted(numbers, reverse=True)
    assert 0 < sum(numbers) <= 100.4
    bars = tab.locator(".bar > div").evaluate_all(
        "all => all.map((bar) => bar.offsetWidth / bar.parentNode.offsetWidth)"
    )
    np.testing.assert_allclose(bars, np.divide(numbers, 100), atol=0.01)
    assert tab.get_by_role("status").inner_text() == f"{names[0]}, {scores[0]}"
    assert tab.locator("dt").all_inner_texts() == ["decoding", "resizing", "network"]
    assert "32 x 32 of 427 x 640 pixels" in tab.locator("figcaption").inner_text()

    tab.set_input_files("#file", {"name": "notes.png", "mimeType": "image/png", "buffer": b"no image"})
    tab.get_by_text("notes.png is not an image that this browser reads.").wait_for()

    tab.get_by_role("button", name="Use the camera").click()
    tab.locator("figcaption", has_text="480 x 640").wait_for()
    assert tab.get_by_role("status").inner_text() == "The camera is on."
    tab.get_by_role("button", name="Stop the camera").click()
    assert tab.get_by_role("status").inner_text().endswith(" %")

    tab.evaluate(DROP, address_of(encoded(photo()[:40, :30])))
    tab.get_by_role("img", name="dropped.png").wait_for()
    assert "of 40 x 30 pixels" in tab.locator("figcaption").inner_text()

    tab.set_input_files("#file", {"name": "notes.png", "mimeType": "image/png", "buffer": b"no image"})
    tab.locator("#result").wait_for(state="hidden")
    assert "notes.png is not an image" in tab.get_by_role("status").inner_text(), "and nothing of the image before"

    tab.evaluate(SLOW_CAMERA)
    tab.evaluate("() => { for (const _ of [1, 2]) document.getElementById('camera').click(); }")
    tab.get_by_role("button", name="Stop the camera").click()
    assert tab.evaluate("() => streams.length") == 1
    tab.get_by_role("button", name="Use the camera").click()
    tab.set_input_files("#file", path)
    tab.get_by_role("img", name="a & <b>.png").wait_for()
    tab.locator("#camera:enabled").wait_for()
    assert tab.evaluate(LIVE) == 0, "the camera is off after a file was chosen while the browser asked"
    assert tab.get_by_role("button", name="Use the camera").is_visible()


def test_the_folder(site):
    out = site("float32")
    names = {path.relative_to(out).as_posix() for path in out.rglob("*") if path.is_file()}
    litert = {f"litert/{name}" for name in web.RUNTIME}
    assert names == {"index.html", "demo.js", "network.json", "resnet20_float32.tflite", *litert}
    described = json.loads((out / "network.json").read_text())
    assert described["classes"] == [str(digit) for digit in range(10)]
    assert (described["size"], described["resize"], described["exif"]) == ([32, 32], 32, False)


def test_the_runtime_is_checked(tmp_path, monkeypatch):
    monkeypatch.setenv("KERAS_RESNET_CACHE", str(tmp_path / "cache"))
    content = {name: name.encode() for name in web.RUNTIME}
    pinned = {name: (source, hashlib.sha256(content[name]).hexdigest()) for name, (source, _) in web.RUNTIME.items()}
    monkeypatch.setattr(web, "RUNTIME", pinned)
    calls = []

    def npm(command, **options):
        (prefix,) = (part.removeprefix("--prefix=") for part in command if part.startswith("--prefix="))
        calls.append(command)
        for name, (source, _) in pinned.items():
            path = pathlib.Path(prefix, "node_modules", source)
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_bytes(content[name])
        return web.subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(web.shutil, "which", lambda name: "/bin/npm")
    monkeypatch.setattr(web.subprocess, "run", npm)
    assert web.runtime() == web.runtime() == content
    assert len(calls) == 1, "then from the cache"
    npm([f"--prefix={tmp_path}"])
    assert web.runtime(tmp_path) == web.runtime(tmp_path / "node_modules") == content
    (tmp_path / "node_modules/@litertjs/core/dist/index.js").write_text("other")
    with pytest.raises(InputError, match=r"litert must be a folder in which `npm install @litertjs/core@.*another ver"):
        web.runtime(tmp_path)
    with pytest.raises(InputError, match=r"litert must be .*; '.*nothing/@litertjs/core/package.json' does not exist"):
        web.runtime(tmp_path / "nothing")


def test_npm_that_fails_or_is_not_installed(tmp_path, monkeypatch, digits_run, capsys):
    monkeypatch.setenv("KERAS_RESNET_CACHE", str(tmp_path / "cache"))
    failed = web.subprocess.CompletedProcess([], 1, "", "\nnpm error code ENOTFOUND\nnpm error errno\n")
    monkeypatch.setattr(web.shutil, "which", lambda name: "/bin/npm")
    monkeypatch.setattr(web.subprocess, "run", lambda command, **options: failed)
    with pytest.raises(InputError, match=r"`npm install .*` failed \(npm error code ENOTFOUND\)"):
        web.runtime()
    monkeypatch.setattr(web.shutil, "which", lambda name: None)
    command = ["export", f"--workdir={digits_run}", "--format=web", f"--out={tmp_path}/site"]
    assert cli.main(command) == 1
    assert "format 'web' requires npm, which is not installed, or --litert=FOLDER" in capsys.readouterr().err
    assert cli.main([*command, f"--litert={tmp_path}"]) == 1
    assert "litert must be a folder in which `npm install" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


def test_mistakes(tmp_path, digits_run, capsys):
    for task in ("detection", "segmentation", "localization"):
        assert cli.main(["export", f"--task={task}", "--format=web"]) == 1
        assert "format must be one of 'saved_model', 'tflite'; got 'web'." in capsys.readouterr().err
    command = ["export", f"--workdir={digits_run}", "--format=web", f"--out={tmp_path}/site"]
    assert cli.main([*command, "--variants=int8,float16"]) == 1
    assert "int8, post_training_int8 for a web page" in capsys.readouterr().err
    assert cli.main([*command, "--noreport"]) == 1
    assert "report is a flag of --format=tflite or onnx or openvino, not of --format=web." in capsys.readouterr().err
    with pytest.raises(InputError, match="dataset must be given for the calibration of int8; got None"):
        web.export(ClassifierRun.open(digits_run), tmp_path / "site", variant="int8", litert=tmp_path)
    assert list(tmp_path.iterdir()) == []
