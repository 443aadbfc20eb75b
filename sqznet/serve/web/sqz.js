// Decodes `.sqz` files as sqznet/network/sqz/decoder.py does. docs/sqz.md describes the format byte by byte.
//
// The weights have the same float32 bits as in Python. The decoder verifies the checksum before it reads anything else.
// The decoder never allocates more memory than the architecture needs, also for a malicious file. Error messages have
// the words of decoder.py.

const MAGIC = [0x89, 0x53, 0x51, 0x5a, 0x0d, 0x0a, 0x1a, 0x0a];
const VERSION = 1;
const ENVELOPE = 16; // bytes: magic, length, checksum
const ARCHS = ["v1.0", "v1.1"];
const ACTIVATIONS = ["relu", "elu"];
const BYPASSES = ["none", "simple", "complex"];
const RESIZES = ["short", "squash"];
const INTERPOLATIONS = ["bilinear", "bicubic", "bilinear_corner"];
const NAMED = [null, "imagenet", "listed"]; // how the class names are stored
const MOST_CLASSES = 16384;
const MOST_SYMBOLS = 4096;
const MOST_TABLES = 8;
const LANES = 128; // interleaved coder states
const BITS = 14; // of a probability
const TOTAL = 1 << BITS;
const STATE_FLOOR = 1 << 16; // a state has 32 bits and reads 16 more when it falls below
const MOST_INTEGER = (1 << 15) - 1;
const LARGEST_STEP = 1e33; // times the largest integer it is still a finite float32

/**
 * The content of a `.sqz` file. Its fields, except `layers`, have the names of the `preprocessing` of manifest.json and
 * of decoder.py, so that it can be used as `preprocessing`.
 *
 * @param {Uint8Array} bytes the file's content
 * @returns {{arch: string, activation: string, bypass: string, conv10_padding: number, classes: number,
 *   class_names: string[]|"imagenet"|null, image_size: number, resize: string, resize_to: number,
 *   interpolation: string, antialias: boolean, channel_means: number[], channel_deviations: number[], note: string,
 *   layers: Object<string, {shape: number[], kernel: Float32Array, bias: Float32Array}>}}
 *   kernels are (height, width, in, out), which is their `shape`, in the order of the file
 * @throws {Error} the bytes are not a complete and valid file, or the file is of a later version
 */
export function decode(bytes) {
  checkEnvelope(bytes);
  const reader = new Reader(bytes, ENVELOPE);
  const { bytesOfNames, bytesOfNote, named, ...header } = readHeader(reader);
  const class_names = namesOf(named, reader.take(bytesOfNames), header.classes);
  const note = textOf(reader.take(bytesOfNote));
  const expected = shapes(header.arch, header.bypass, header.classes);
  const codes = expected.map(([, shape]) => readCode(reader, shape));
  const kernels = readKernels(reader, codes);
  const layers = expected.map(([name, shape], index) => {
    return [name, { shape, kernel: kernels[index], bias: codes[index].bias }];
  });
  return { ...header, class_names, note, layers: Object.fromEntries(layers) };
}

// Name and kernel shape (height, width, in, out) of each convolution, in the order of the file.
function shapes(arch, bypass, classes) {
  let [filters, side] = { "v1.0": [96, 7], "v1.1": [64, 3] }[arch];
  const found = [["conv1", [side, side, 3, filters]]];
  for (const [index, squeeze] of [16, 16, 32, 32, 48, 48, 64, 64].entries()) {
    const [name, expand] = [`fire${index + 2}`, 4 * squeeze];
    found.push([`${name}_squeeze1x1`, [1, 1, filters, squeeze]]);
    found.push([`${name}_expand1x1`, [1, 1, squeeze, expand]]);
    found.push([`${name}_expand3x3`, [3, 3, squeeze, expand]]);
    if (bypass === "complex" && index % 2 === 0) found.push([`${name}_bypass1x1`, [1, 1, filters, 2 * expand]]);
    filters = 2 * expand;
  }
  return [...found, ["conv10", [1, 1, filters, classes]]];
}

function checkEnvelope(bytes) {
  if (bytes.length < ENVELOPE || MAGIC.some((byte, index) => bytes[index] !== byte)) {
    throw new Error("it does not begin as a .sqz file does");
  }
  const reader = new Reader(bytes, MAGIC.length);
  const [length, checksum] = [reader.u32(), reader.u32()];
  if (length !== bytes.length) {
    throw new Error(`it has ${grouped(bytes.length)} bytes, and says that it has ${grouped(length)}`);
  }
  if (crc32(bytes.subarray(ENVELOPE)) !== checksum) {
    throw new Error("its checksum is wrong: it was changed or damaged");
  }
}

// Reads numbers and bytes one after the other; an error names the byte where the file ends too early.
class Reader {
  constructor(bytes, place) {
    this.bytes = bytes;
    this.view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.place = place;
  }

  // Skips bytes and returns the position of the first one.
  step(count) {
    const { place } = this;
    if (place + count > this.bytes.length) {
      throw new Error(`${count} bytes are due at byte ${grouped(place)}, and it ends at ${grouped(this.bytes.length)}`);
    }
    this.place += count;
    return place;
  }

  take(count) {
    const place = this.step(count);
    return this.bytes.subarray(place, place + count);
  }

  u8() {
    return this.view.getUint8(this.step(1));
  }

  u16() {
    return this.view.getUint16(this.step(2), true);
  }

  u32() {
    return this.view.getUint32(this.step(4), true);
  }

  i16() {
    return this.view.getInt16(this.step(2), true);
  }

  f32() {
    return this.view.getFloat32(this.step(4), true);
  }

  // Without DataView.getFloat16, which browsers have only since 2025.
  f16() {
    const bits = this.u16();
    const [exponent, fraction] = [(bits >> 10) & 31, bits & 1023];
    const ofExponent = exponent ? (1024 + fraction) * 2 ** (exponent - 25) : fraction * 2 ** -24;
    const size = exponent < 31 ? ofExponent : fraction ? NaN : Infinity;
    return bits >> 15 ? -size : size;
  }

  // Seven bits per byte, the lowest first; the last byte is below 128.
  number() {
    let value = 0;
    for (const shift of [0, 7, 14]) {
      const byte = this.u8();
      value |= (byte & 127) << shift;
      if (byte < 128) return value;
    }
    throw new Error(`a number has more than three bytes at byte ${grouped(this.place)}`);
  }
}

function readHeader(reader) {
  const version = reader.u8();
  if (version !== VERSION) {
    throw new Error(`it is of version ${version} of the format, and this decoder reads version ${VERSION}`);
  }
  const choices = [ARCHS, ACTIVATIONS, BYPASSES].map((each) => oneOf(each, reader.u8()));
  const [arch, activation, bypass] = choices;
  const conv10_padding = reader.u8();
  const [resize, interpolation] = [RESIZES, INTERPOLATIONS].map((each) => oneOf(each, reader.u8()));
  const antialias = reader.u8();
  const [image_size, resize_to] = [reader.u16(), reader.u16()];
  const [channel_means, channel_deviations] = [0, 1].map(() => [reader.f32(), reader.f32(), reader.f32()]);
  const classes = reader.u16();
  const named = oneOf(NAMED, reader.u8());
  const [bytesOfNames, bytesOfNote] = [reader.u32(), reader.u32()];
  const counted = classes >= 1 && classes <= MOST_CLASSES;
  const sized = image_size >= 1 && image_size <= resize_to;
  if (!counted || !sized || conv10_padding > 1 || antialias > 1) {
    throw new Error(
      `its header makes no sense: ${classes} classes, images of ${image_size} pixels cut from ${resize_to}`,
    );
  }
  const scaling = [...channel_means, ...channel_deviations];
  if (!scaling.every(Number.isFinite) || channel_deviations.includes(0)) {
    throw new Error(`its channel means and deviations are ${scaling.join(", ")}`);
  }
  return {
    arch,
    activation,
    bypass,
    conv10_padding,
    classes,
    image_size,
    resize,
    resize_to,
    interpolation,
    antialias: antialias === 1,
    channel_means,
    channel_deviations,
    named,
    bytesOfNames,
    bytesOfNote,
  };
}

function namesOf(named, bytes, classes) {
  const names = named === "listed" ? textOf(bytes).split("\n") : named;
  const count = named === "listed" ? names.length : named === "imagenet" ? 1000 : classes;
  if (count !== classes) throw new Error(`its class names are not those of ${classes} classes`);
  if (bytes.length && named !== "listed") throw new Error("it lists class names, and says that it does not");
  return names;
}

// The code tables of the symbols of one kernel, and its bias.
function readCode(reader, [height, width, channels, filters]) {
  const [step, lowest, symbols, tables] = [reader.f32(), reader.i16(), reader.u16(), reader.u8()];
  const counted = symbols >= 1 && symbols <= MOST_SYMBOLS && tables >= 1 && tables <= MOST_TABLES;
  if (!(step > 0 && step <= LARGEST_STEP && counted) || lowest + symbols - 1 > MOST_INTEGER) {
    const where = grouped(reader.place);
    throw new Error(`a layer has a step of ${step}, ${symbols} symbols and ${tables} tables, at ${where}`);
  }
  // The number of the table of each input channel.
  const ofChannels = tables > 1 ? reader.take(channels) : new Uint8Array(channels);
  if (ofChannels.some((table) => table >= tables)) {
    throw new Error(`an input channel has a table that there is not, before byte ${grouped(reader.place)}`);
  }
  const frequencies = Uint32Array.from({ length: tables * symbols }, () => reader.number());
  for (let from = 0; from < frequencies.length; from += symbols) {
    const sum = frequencies.subarray(from, from + symbols).reduce((total, each) => total + each, 0);
    if (sum !== TOTAL) {
      throw new Error(`frequencies do not add up to ${grouped(TOTAL)}, before byte ${grouped(reader.place)}`);
    }
  }
  const bias = Float32Array.from({ length: filters }, () => reader.f16());
  if (!bias.every(Number.isFinite)) throw new Error(`a bias is no number, before byte ${grouped(reader.place)}`);
  return { taps: height * width, channels, filters, step, lowest, symbols, tables, ofChannels, frequencies, bias };
}

// Decodes the kernels with rANS, range asymmetric numeral systems (Duda 2013, arXiv 1311.2540). Lane i modulo LANES
// holds weight number i of a kernel, in the order of (height, width, in, out).
function readKernels(reader, codes) {
  const states = Uint32Array.from({ length: LANES }, () => reader.u32());
  const { bytes } = reader;
  if ((bytes.length - reader.place) % 2) throw new Error("an odd byte is left at its end");
  if (states.some((state) => state < STATE_FLOOR)) throw new Error("a lane begins below its floor");
  const kernels = codes.map((code) => readKernel(reader, code, states));
  if (reader.place !== bytes.length || states.some((state) => state !== STATE_FLOOR)) {
    throw new Error("its symbols do not end where it ends");
  }
  return kernels;
}

function readKernel(reader, code, states) {
  const { taps, channels, filters, step, lowest, symbols, ofChannels, frequencies } = code;
  const { symbolAt, starts } = lookups(code);
  // The product is exact in float64 and rounded once, to float32.
  const weights = Float32Array.from({ length: symbols }, (_, symbol) => (lowest + symbol) * step);
  const kernel = new Float32Array(taps * channels * filters);
  const { view } = reader;
  let { place } = reader; // of the next word
  let index = 0;
  for (let row = 0; row < taps * channels; row++) {
    const table = ofChannels[row % channels];
    for (const end = index + filters; index < end; index++) {
      const lane = index % LANES;
      const state = states[lane];
      const low = state & (TOTAL - 1);
      const symbol = symbolAt[table * TOTAL + low];
      const entry = table * symbols + symbol;
      // Below 2 ** 32 with and without a word; `<<` and `|` would give a signed number.
      let next = frequencies[entry] * (state >>> BITS) + low - starts[entry];
      if (next < STATE_FLOOR) {
        if (place === view.byteLength) throw new Error("its symbols end too early");
        next = next * STATE_FLOOR + view.getUint16(place, true);
        place += 2;
      }
      states[lane] = next;
      kernel[index] = weights[symbol];
    }
  }
  reader.place = place;
  return kernel;
}

// The symbol by table and low bits of a state, and the sum of the frequencies before a symbol by table and symbol.
function lookups({ symbols, tables, frequencies }) {
  const symbolAt = new Uint16Array(tables * TOTAL);
  const starts = new Uint16Array(tables * symbols);
  for (let table = 0; table < tables; table++) {
    let start = 0;
    for (let symbol = 0; symbol < symbols; symbol++) {
      const entry = table * symbols + symbol;
      starts[entry] = start;
      symbolAt.fill(symbol, table * TOTAL + start, table * TOTAL + start + frequencies[entry]);
      start += frequencies[entry];
    }
  }
  return { symbolAt, starts };
}

// The CRC-32 of PNG, gzip and zlib.
function crc32(bytes) {
  const table = Uint32Array.from({ length: 256 }, (_, byte) => {
    for (let bit = 0; bit < 8; bit++) byte = byte & 1 ? (byte >>> 1) ^ 0xedb88320 : byte >>> 1;
    return byte;
  });
  let rest = -1;
  for (const byte of bytes) rest = table[(rest ^ byte) & 255] ^ (rest >>> 8);
  return ~rest >>> 0;
}

function textOf(bytes) {
  try {
    return new TextDecoder("utf-8", { fatal: true, ignoreBOM: true }).decode(bytes);
  } catch {
    throw new Error("a text in it is not UTF-8");
  }
}

function oneOf(choices, index) {
  if (index >= choices.length) throw new Error(`choice ${index} of ${choices.join(", ")} is none`);
  return choices[index];
}

function grouped(number) {
  return number.toLocaleString("en");
}
