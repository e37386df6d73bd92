"use strict";

/* The worker of the offline page. It scales a picture as training did, runs the network and encodes the result as PNG.
   Pixels are { data: Uint8Array, height, width, channels }, the channels of a pixel side by side. */

const MAX_PIXELS = 64e6; // of a picture; several copies of it are held
const MAX_MEMORY = Math.min(2.5, (self.navigator.deviceMemory ?? 4) / 2) * 2 ** 30; // bytes that the network may take

let runtime = null; // the promise of ONNX Runtime
const sessions = new Map(); // one for each direction that was used

onmessage = async ({ data }) => {
  try {
    if (data.runtime) runtime = start(data.runtime);
    else postMessage({ result: await translate(data) });
  } catch (error) {
    postMessage({ error: explain(error), broken: !error.expected });
  }
};

async function translate({ picture, model, weights, at }) {
  const tell = (step, pixels) => postMessage({ step, pixels });
  tell("Reading the picture");
  const { rgb, alpha } = await read(picture, model);
  const [height, width] = sizeAt(model, rgb.height, rgb.width, at);
  checkMemory(model, height, width);
  const { data, channels } = resize(stored(rgb, model), height, width, model.nearest);
  tell("Loading the model");
  const session = await sessionOf(model, weights);
  tell("Translating", height * width);
  const input = new ort.Tensor("uint8", data, [1, height, width, channels]);
  const output = (await session.run({ images: input })).translated;
  tell("Writing the result");
  const translated = { data: await output.getData(), height, width, channels: model.out_channels };
  return png(withAlpha(resize(translated, rgb.height, rgb.width), alpha));
}

function explain(error) {
  if (error.expected) return error.message;
  if (/memory|alloc|RangeError/i.test(`${error.name} ${error.message ?? error}`)) {
    return "This device's memory does not suffice: choose a smaller scale, or close other pages.";
  }
  return `The translation failed: ${error.message ?? error}`;
}

function refuse(message) {
  throw Object.assign(new Error(message), { expected: true });
}

/* ---- ONNX Runtime and the models, which the page holds as base64 of gzip */

async function start({ ort: script, glue, wasm, webgpu }) {
  importScripts(await address(script));
  ort.env.logLevel = "error";
  ort.env.wasm.numThreads = 1; // a page from a file has no shared memory
  ort.env.wasm.wasmPaths = { mjs: await address(glue) };
  ort.env.wasm.wasmBinary = await unpack(wasm);
  return webgpu && await self.navigator.gpu?.requestAdapter() ? ["webgpu", "wasm"] : ["wasm"];
}

async function sessionOf(model, weights) {
  const executionProviders = await runtime;
  if (!sessions.has(model.direction)) {
    sessions.set(model.direction, await ort.InferenceSession.create(await unpack(weights), { executionProviders }));
  }
  return sessions.get(model.direction);
}

async function address(packed) {
  return URL.createObjectURL(new Blob([await unpack(packed)], { type: "text/javascript" }));
}

async function unpack(packed) {
  const text = atob(packed), bytes = new Uint8Array(text.length);
  for (let place = 0; place < bytes.length; place++) bytes[place] = text.charCodeAt(place);
  return through(bytes, new DecompressionStream("gzip"));
}

async function through(bytes, stream) {
  return new Uint8Array(await new Response(new Blob([bytes]).stream().pipeThrough(stream)).arrayBuffer());
}

/* ---- reading: upright, in sRGB unless the model keeps profiles, transparent parts over white */

async function read(picture, model) {
  const colorSpaceConversion = model.icc === "keep" ? "none" : "default";
  let bitmap;
  try {
    bitmap = await createImageBitmap(picture, { colorSpaceConversion });
  } catch {
    refuse("This browser cannot read that file as a picture: choose a PNG, JPEG, WebP, AVIF, GIF or BMP file.");
  }
  const { width, height } = bitmap;
  if (width * height > MAX_PIXELS) {
    refuse(`The picture has ${width} × ${height} pixels, and this page takes up to ${MAX_PIXELS / 1e6} million: make it smaller.`);
  }
  const context = new OffscreenCanvas(width, height).getContext("2d", { willReadFrequently: true });
  context.drawImage(bitmap, 0, 0);
  bitmap.close();
  const rgba = context.getImageData(0, 0, width, height).data;
  const rgb = { data: new Uint8Array(width * height * 3), height, width, channels: 3 };
  const alpha = { data: new Uint8Array(width * height), height, width, channels: 1 };
  let opaque = true;
  for (let pixel = 0; pixel < alpha.data.length; pixel++) {
    const share = alpha.data[pixel] = rgba[4 * pixel + 3];
    if (share < 255) opaque = false;
    for (let channel = 0; channel < 3; channel++) {
      const value = rgba[4 * pixel + channel];
      rgb.data[3 * pixel + channel] = share === 255 ? value : (value * share + 255 * (255 - share) + 127) / 255;
    }
  }
  return { rgb, alpha: opaque || model.out_channels !== 3 ? null : alpha };
}

/* What the model takes: colours; luma of ITU-R BT.601, in the whole numbers of Pillow; or the ids of a label map. */
function stored(rgb, { channels, ids }) {
  if (channels === 3) return rgb;
  const data = new Uint8Array(rgb.height * rgb.width), value = ids ? idOf(new Map(ids)) : luma;
  for (let pixel = 0, at = 0; pixel < data.length; pixel++, at += 3) data[pixel] = value(rgb.data[at], rgb.data[at + 1], rgb.data[at + 2]);
  return { ...rgb, data, channels };
}

const luma = (red, green, blue) => (red * 19595 + green * 38470 + blue * 7471 + 32768) >> 16;

const idOf = (ids) => (red, green, blue) => ids.get((red << 16) | (green << 8) | blue) ??
  refuse(`The colour (${red}, ${green}, ${blue}) of this label map is none of the model's ${ids.size} classes.`);

/* ---- sizes, as twofold/translation/sizes.py and twofold/formats/scale.py have them */

function sizeAt({ scale, side, multiple }, height, width, at) {
  if (at === "native") return [height, width];
  if (at === "trained" && scale) return loaded(scale, height, width);
  const mean = at === "trained" ? side : +at;
  if (!mean || mean * mean === height * width) return [height, width];
  const steps = mean / Math.sqrt(height * width) / multiple;
  return [height, width].map((pixels) => Math.max(1, rounded(pixels * steps)) * multiple);
}

function loaded({ resize, load_size: load, size }, height, width) {
  const scaled = (factor, least) => [height, width].map((pixels) => Math.max(least, rounded(pixels * factor)));
  switch (resize) {
    case "resize-and-crop": return [load, load];
    case "shortest": return scaled(load / Math.min(width, height), 1);
    case "scale-width-and-crop": return scaled(Math.max(load / width, size / height), size);
    case "scale-width": return scaled(load / width, 1);
    default: return [height, width];
  }
}

/* Halves go to the even number, as in Python. */
function rounded(value) {
  const low = Math.floor(value), rest = value - low;
  return rest === 0.5 ? low + (low % 2) : low + (rest > 0.5);
}

function checkMemory({ bytes_per_pixel: each }, height, width) {
  if (height * width * each <= MAX_MEMORY) return;
  const side = Math.floor(Math.sqrt(0.8 * MAX_MEMORY / each)), gib = Math.ceil(height * width * each / 2 ** 30);
  refuse(`${width} × ${height} pixels need about ${gib} GiB of memory: choose a smaller scale, or a picture of up to ${side} × ${side} pixels.`);
}

/* ---- resizing, as twofold/formats/resize.py: bicubic with antialias in 16-bit weights, width first; or the nearest pixel */

function resize(image, height, width, nearest) {
  if (height === image.height && width === image.width) return image;
  if (nearest) return toNearest(image, height, width);
  const wide = width === image.width ? image.data : alongRows(image, width);
  const data = height === image.height ? wide : weighed(wide, taps(image.height, height), width * image.channels);
  return { data, height, width, channels: image.channels };
}

function toNearest({ data: from, height: rows, width: columns, channels }, height, width) {
  const data = new Uint8Array(height * width * channels);
  const closest = (place, side, count) => Math.min(count - 1, Math.floor(Math.fround((place + 0.5) * Math.fround(count / side))));
  for (let to = 0; to < data.length; to++) {
    const pixel = Math.floor(to / channels), row = closest(Math.floor(pixel / width), height, rows);
    data[to] = from[(row * columns + closest(pixel % width, width, columns)) * channels + to % channels];
  }
  return { data, height, width, channels };
}

function alongRows({ data, height, width, channels }, to) {
  const found = taps(width, to), result = new Uint8Array(height * to * channels);
  for (let y = 0; y < height; y++) {
    result.set(weighed(data.subarray(y * width * channels, (y + 1) * width * channels), found, channels), y * to * channels);
  }
  return result;
}

/* Each result line is a weighted sum of lines of `length` values. */
function weighed(data, { starts, weights, size, precision }, length) {
  const result = new Uint8ClampedArray(starts.length * length), half = 1 << (precision - 1);
  for (let line = 0; line < starts.length; line++) {
    const first = starts[line] * length, end = Math.min(size, data.length / length - starts[line]);
    for (let place = 0; place < length; place++) {
      let sum = half;
      for (let tap = 0, from = first + place; tap < end; tap++, from += length) sum += weights[line * size + tap] * data[from];
      result[line * length + place] = sum >> precision;
    }
  }
  return result;
}

function taps(from, to) {
  const scale = from / to, widening = Math.max(scale, 1), support = 2 * widening, size = Math.ceil(support) * 2 + 1;
  const starts = new Int32Array(to), exact = new Float64Array(to * size);
  for (let place = 0; place < to; place++) {
    const centre = scale * (place + 0.5), start = starts[place] = Math.max(0, Math.trunc(centre - support + 0.5));
    const count = Math.min(from, Math.trunc(centre + support + 0.5)) - start;
    let total = 0;
    for (let tap = 0; tap < count; tap++) total += exact[place * size + tap] = cubic((start + tap - centre + 0.5) / widening);
    for (let tap = 0; tap < count; tap++) exact[place * size + tap] /= total;
  }
  let precision = 0;
  const largest = exact.reduce((most, weight) => Math.max(most, weight), 0);
  while (precision < 22 && 0.5 + largest * 2 ** (precision + 1) < 2 ** 15) precision++;
  const weights = Int32Array.from(exact, (weight) => Math.trunc(weight * 2 ** precision + Math.sign(weight) / 2));
  return { starts, weights, size, precision };
}

function cubic(place) {
  const x = Math.abs(place);
  if (x < 1) return (1.5 * x - 2.5) * x * x + 1;
  return x < 2 ? ((x - 5) * x + 8) * x * -0.5 + 2 : 0;
}

/* ---- writing: PNG in the channels of the model, which a canvas would turn into RGBA */

function withAlpha(image, alpha) {
  if (!alpha) return image;
  const data = new Uint8Array(alpha.data.length * 4);
  for (let to = 0, from = 0; to < data.length; to++) data[to] = to % 4 === 3 ? alpha.data[to >> 2] : image.data[from++];
  return { ...image, data, channels: 4 };
}

async function png({ data, height, width, channels }) {
  const line = width * channels, rows = new Uint8Array(height * (line + 1));
  for (let y = 0, to = 0; y < height; y++) {
    rows[to++] = y ? 2 : 0; // PNG's filters Up and None
    for (let from = y * line; from < (y + 1) * line; from++) rows[to++] = data[from] - (y ? data[from - line] : 0);
  }
  const header = new Uint8Array(13), fields = new DataView(header.buffer);
  fields.setUint32(0, width);
  fields.setUint32(4, height);
  header.set([8, { 1: 0, 3: 2, 4: 6 }[channels]], 8);
  const chunks = [["IHDR", header], ["sRGB", new Uint8Array(1)],
    ["IDAT", await through(rows, new CompressionStream("deflate"))], ["IEND", new Uint8Array()]];
  const signature = new Uint8Array([137, 80, 78, 71, 13, 10, 26, 10]);
  return new Blob([signature, ...chunks.map(chunk)], { type: "image/png" });
}

const CRC = Int32Array.from({ length: 256 }, (_, value) => {
  for (let bit = 0; bit < 8; bit++) value = value & 1 ? (value >>> 1) ^ 0xedb88320 : value >>> 1;
  return value;
});

function chunk([name, content]) {
  const bytes = new Uint8Array(content.length + 12), fields = new DataView(bytes.buffer);
  fields.setUint32(0, content.length);
  bytes.set(new TextEncoder().encode(name), 4);
  bytes.set(content, 8);
  let sum = -1;
  for (const byte of bytes.subarray(4, -4)) sum = CRC[(sum ^ byte) & 255] ^ (sum >>> 8);
  fields.setUint32(content.length + 8, ~sum);
  return bytes;
}
