/* Classifies images in the browser: decoding, the crop and the resizing are those of the package's evaluation. */

import {loadAndCompile, loadLiteRt, Tensor} from "./litert/index.js";

const TOP = 5, STRIP = 256;
const at = (id) => document.getElementById(id);

/* ---- from a file to the network's input ---- */

/** Return a copy of a JPEG file whose EXIF orientation is 1, so that no browser rotates it; other files as they are. */
export function withoutOrientation(buffer) {
  const view = new DataView(buffer.slice(0)), {byteLength} = view;
  if (byteLength < 4 || view.getUint16(0) !== 0xffd8) return buffer;
  for (let place = 2; place + 18 < byteLength && view.getUint8(place) === 0xff;) {
    const marker = view.getUint8(place + 1), tiff = place + 10;
    if (marker === 0xda) break;
    if (marker === 0xe1 && view.getUint32(place + 4) === 0x45786966) { // "Exif"
      const little = view.getUint16(tiff) === 0x4949, directory = tiff + view.getUint32(tiff + 4, little);
      const count = directory + 2 <= byteLength ? view.getUint16(directory, little) : 0;
      for (let entry = directory + 2, left = count; left && entry + 12 <= byteLength; entry += 12, left -= 1) {
        if (view.getUint16(entry, little) === 0x0112) view.setUint16(entry + 8, 1, little);
      }
    }
    place += 2 + view.getUint16(place + 2);
  }
  return view.buffer;
}

/** Decode an image file to an ImageBitmap. */
export async function decode(file, exif) {
  const content = exif ? file : new Blob([withoutOrientation(await file.arrayBuffer())], {type: file.type});
  return createImageBitmap(content, {premultiplyAlpha: "none", colorSpaceConversion: "none"});
}

const round = Math.fround;

function halfToEven(value) {
  const low = Math.floor(value), rest = value - low;
  return rest > 0.5 || (rest === 0.5 && low % 2) ? low + 1 : low;
}

/** Return [top, left, height, width] of the part of an image that becomes the input; it may fall between pixels. */
export function cropWindow([height, width], [cropHeight, cropWidth], resize) {
  if (!resize) {
    if (height < cropHeight || width < cropWidth) {
      throw new Error(`the image must have at least ${cropHeight} x ${cropWidth} pixels; it has ${height} x ${width}`);
    }
    return [Math.floor((height - cropHeight) / 2), Math.floor((width - cropWidth) / 2), cropHeight, cropWidth];
  }
  const sides = [height, width].map((side) => {
    const resized = Math.floor((side * resize) / Math.min(height, width)), scale = round(side / resized);
    return [round(halfToEven((resized - cropHeight) / 2) * scale), round(cropHeight * scale)];
  });
  return [sides[0][0], sides[1][0], sides[0][1], sides[1][1]];
}

/** Return, for each pixel of one resized axis, the first source pixel and the weights of it and the following ones. */
export function spans(inputSize, start, length, outputSize) {
  const scale = round(outputSize / length), inverse = round(1 / scale), shift = round(start * scale) * inverse;
  const radius = Math.max(inverse, 1); // antialiasing: a triangle as wide as an output pixel
  const clamp = (value) => Math.min(Math.max(value, 0), inputSize - 1);
  return Array.from({length: outputSize}, (_, index) => {
    const center = round(round((index + 0.5) * inverse) + shift);
    const first = clamp(Math.ceil(center - radius - 0.5)), last = clamp(Math.floor(center + radius - 0.5));
    const weights = [];
    for (let place = first; place <= last; place += 1) {
      weights.push(Math.max(0, 1 - Math.abs((place + 0.5 - center) / radius)));
    }
    const total = weights.reduce((sum, weight) => sum + weight, 0);
    return {first, weights: Float32Array.from(weights, (weight) => weight / total)};
  });
}

/** Resize the window of an image by antialiased bilinear interpolation: u8[height,width,3], rounded half to even. */
export function resizeWindow(bitmap, [top, left, high, wide], [height, width]) {
  const rows = spans(bitmap.height, top, high, height), columns = spans(bitmap.width, left, wide, width);
  const end = (list) => Math.max(...list.map(({first, weights}) => first + weights.length));
  const [y, x] = [rows[0].first, columns[0].first], [y1, x1] = [end(rows), end(columns)];
  const canvas = document.createElement("canvas"), part = new Float32Array((y1 - y) * width * 3);
  [canvas.width, canvas.height] = [x1 - x, Math.min(STRIP, y1 - y)];
  const context = canvas.getContext("2d", {willReadFrequently: true});
  // In strips: browsers on phones refuse a canvas of the size of a photograph.
  for (let strip = y; strip < y1; strip += STRIP) {
    const count = Math.min(STRIP, y1 - strip);
    context.clearRect(0, 0, canvas.width, canvas.height);
    context.drawImage(bitmap, x, strip, x1 - x, count, 0, 0, x1 - x, count);
    const pixels = context.getImageData(0, 0, x1 - x, count).data;
    for (let row = 0; row < count; row += 1) {
      columns.forEach(({first, weights}, column) => {
        let red = 0, green = 0, blue = 0, place = 4 * (row * (x1 - x) + first - x);
        for (const weight of weights) {
          red += weight * pixels[place];
          green += weight * pixels[place + 1];
          blue += weight * pixels[place + 2];
          place += 4;
        }
        part.set([red, green, blue], 3 * ((strip - y + row) * width + column));
      });
    }
  }
  const result = new Uint8ClampedArray(height * width * 3), line = new Float32Array(width * 3);
  rows.forEach(({first, weights}, row) => {
    line.fill(0);
    weights.forEach((weight, index) => {
      const from = (first - y + index) * line.length;
      for (let place = 0; place < line.length; place += 1) line[place] += weight * part[from + place];
    });
    result.set(line, row * line.length);
  });
  return new Uint8Array(result.buffer);
}

/* ---- the network ---- */

async function loadNetwork() {
  const response = await fetch("network.json");
  if (!response.ok) throw new Error(`network.json: ${response.status}`);
  const network = await response.json();
  // The runtime writes its log to the error console.
  const isNote = (line) => /^(INFO|WARNING|VERBOSE):/.test(line);
  globalThis.Module = {printErr: (line) => isNote(line) ? console.debug(line) : console.error(line)};
  // The network runs on the processor. Without this adapter, the runtime opens a GPU, or warns that there is none.
  const adapter = {limits: {}, features: new Set(), requestDevice: async () => null};
  Object.defineProperty(navigator, "gpu", {value: {requestAdapter: async () => adapter}, configurable: true});
  await loadLiteRt("./litert/");
  delete navigator.gpu;
  const model = await loadAndCompile(new URL(network.file, location.href), {accelerator: "wasm"});
  const run = async (pixels) => {
    const input = new Tensor(pixels, [1, ...network.size, 3]), [output] = await model.run([input]);
    const values = await output.data();
    input.delete();
    output.delete();
    return values instanceof Uint8Array ? Float32Array.from(values, (value) => value / 256) : values;
  };
  await run(new Uint8Array(network.size[0] * network.size[1] * 3)); // the first call is slower
  return {...network, run};
}

const loading = loadNetwork();

/** Classify an image file, a video or another source of an ImageBitmap. */
export async function classify(source) {
  const network = await loading, start = performance.now();
  const bitmap = source instanceof Blob ? await decode(source, network.exif) : await createImageBitmap(source);
  const decoded = performance.now(), imageSize = [bitmap.height, bitmap.width];
  try {
    const pixels = resizeWindow(bitmap, cropWindow(imageSize, network.size, network.resize), network.size);
    const resized = performance.now(), scores = await network.run(pixels);
    const times = {decoding: decoded - start, resizing: resized - decoded, network: performance.now() - resized};
    return {scores, pixels, imageSize, times};
  } finally {
    bitmap.close();
  }
}

/* ---- the page ---- */

function element(tag, attributes, ...children) {
  const made = Object.assign(document.createElement(tag), attributes);
  made.append(...children);
  return made;
}

function say(text, isError = false) {
  at("status").textContent = text;
  at("status").classList.toggle("error", isError);
}

function draw(pixels, [height, width]) {
  const image = new ImageData(width, height), canvas = at("crop");
  for (let place = 0; place < height * width; place += 1) {
    image.data.set([...pixels.subarray(3 * place, 3 * place + 3), 255], 4 * place);
  }
  [canvas.width, canvas.height] = [width, height];
  canvas.classList.toggle("small", width < 128);
  canvas.getContext("2d").putImageData(image, 0, 0);
}

function show(network, {scores, pixels, imageSize, times}) {
  const best = Array.from(scores.keys()).sort((a, b) => scores[b] - scores[a]).slice(0, TOP);
  const percent = (value) => `${(100 * value).toFixed(1)} %`;
  at("scores").replaceChildren(...best.map((label) => {
    const bar = element("div");
    bar.style.width = `${100 * scores[label]}%`;
    return element("li", {}, element("div", {}, element("span", {}, network.classes[label]), percent(scores[label])),
      element("div", {className: "bar"}, bar));
  }));
  at("times").replaceChildren(...Object.entries(times).flatMap(([name, value]) =>
    [element("dt", {}, name), element("dd", {}, `${value.toFixed(1)} ms`)]));
  at("size").textContent = `What the network sees: ${network.size.join(" x ")} of ${imageSize.join(" x ")} pixels`;
  draw(pixels, network.size);
  at("result").hidden = false;
  return `${network.classes[best[0]]}, ${percent(scores[best[0]])}`;
}

let stream = null, opened = 0;

async function open(file) {
  if (!file) return;
  stopCamera();
  const number = (opened += 1);
  try {
    const [network, result] = [await loading, await classify(file)];
    if (number !== opened) return; // another image or the camera was opened meanwhile
    URL.revokeObjectURL(at("image").src);
    Object.assign(at("image"), {src: URL.createObjectURL(file), alt: file.name || "The pasted image", hidden: false});
    say(show(network, result));
  } catch (error) {
    if (number !== opened) return;
    const name = file.name || "The image";
    at("result").hidden = true; // it is that of another image
    say(error instanceof DOMException ? `${name} is not an image that this browser reads.` : `${error.message}.`, true);
  }
}

async function startCamera() {
  const video = at("video"), number = (opened += 1);
  at("camera").disabled = true; // until the browser has asked for permission
  try {
    const network = await loading;
    const asked = await navigator.mediaDevices.getUserMedia({video: {facingMode: "environment"}});
    if (number !== opened) return asked.getTracks().forEach((track) => track.stop()); // a file was opened meanwhile
    stream = asked;
    stream.getVideoTracks()[0].addEventListener("ended", stopCamera); // it was unplugged
    at("camera").disabled = false;
    at("camera").textContent = "Stop the camera";
    video.srcObject = asked;
    await video.play();
    at("image").hidden = true;
    video.hidden = false;
    say("The camera is on."); // not each result: a screen reader would read them all
    while (stream === asked) {
      const result = await classify(video);
      if (stream === asked) at("camera").dataset.last = show(network, result);
      await new Promise(requestAnimationFrame);
    }
  } catch (error) {
    if (number !== opened) return; // the camera was stopped meanwhile
    stopCamera();
    say(`The camera cannot be used: ${error.message}.`, true);
  } finally {
    at("camera").disabled = false;
  }
}

function stopCamera() {
  if (!stream) return;
  opened += 1;
  stream.getTracks().forEach((track) => track.stop());
  stream = null;
  at("video").hidden = true;
  at("camera").textContent = "Use the camera";
  say(at("camera").dataset.last || "");
}

function listen() {
  at("file").addEventListener("change", (event) => {
    open(event.target.files[0]);
    event.target.value = ""; // the same file may be chosen again
  });
  at("camera").addEventListener("click", () => stream ? stopCamera() : startCamera());
  for (const name of ["dragenter", "dragover", "dragleave", "drop"]) {
    addEventListener(name, (event) => {
      event.preventDefault();
      document.body.classList.toggle("over", name === "dragenter" || name === "dragover");
      if (name === "drop") open(event.dataTransfer.files[0]);
    });
  }
  addEventListener("paste", (event) => open(event.clipboardData.files[0]));
}

async function main() {
  say("Loading the network.");
  try {
    const network = await loading;
    document.title = document.querySelector("h1").textContent = network.title;
    at("about").prepend(`${network.description} `);
  } catch (error) {
    say(`The network cannot be loaded: ${error.message}.`, true);
    return;
  }
  listen();
  at("file").disabled = false;
  // Browsers give the camera to pages from https and from this device only.
  at("camera").disabled = !navigator.mediaDevices;
  say("Ready.");
}

main();
