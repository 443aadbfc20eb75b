// One interface to both runtimes, from pixels to raw outputs. Each runtime is loaded with the first file that needs it.

const MODULES = new URL("node_modules/", document.baseURI).href;
const ARRAYS = { float32: Float32Array, uint8: Uint8Array };

/**
 * Loads a model file into its runtime.
 *
 * @param {string} name of the file
 * @param {ArrayBuffer} bytes its content
 * @param {object} entry of the file in manifest.json
 * @returns {Promise<{runtime: string, run: Function, release: Function}>}
 *   `run` takes RGB pixels (size, size, 3), 0..255, and returns the raw output (classes,).
 */
export async function load(name, bytes, entry) {
  for (const [port, { dtype }] of [["input", entry.input], ["output", entry.output]]) {
    if (!(dtype in ARRAYS)) throw new Error(`${name} has an ${port} of ${dtype}; this page supports float32 and uint8`);
  }
  return name.endsWith(".tflite") ? loadTflite(name, bytes, entry) : loadOnnx(bytes, entry);
}

/** Converts a raw output to probabilities (classes,). */
export function probabilities(raw, { scale, zero_point: zeroPoint }) {
  return Float32Array.from(raw, (value) => scale * (value - zeroPoint));
}

/** Converts `pixels` (size, size, 3) to the layout and dtype of the file's input. */
export function toInput(pixels, { layout, dtype }) {
  const values = new ARRAYS[dtype](pixels.length);
  if (layout === "NHWC") {
    values.set(pixels);
    return values;
  }
  const plane = pixels.length / 3;
  for (let index = 0; index < pixels.length; index++) {
    values[(index % 3) * plane + Math.floor(index / 3)] = pixels[index];
  }
  return values;
}

function shapeOf(input) {
  return [1, ...input.shape.slice(1)];
}

let liteRt; // promise of the module, after the first use

async function startLiteRt() {
  const core = await import("@litertjs/core");
  await core.loadLiteRt(`${MODULES}@litertjs/core/wasm/`);
  return core;
}

async function loadTflite(name, bytes, entry) {
  liteRt ??= startLiteRt();
  const { Tensor, loadAndCompile } = await liteRt;
  const model = await loadAndCompile(new Uint8Array(bytes), { accelerator: "wasm" });
  const [found] = model.getInputDetails();
  if (found.dtype !== entry.input.dtype) {
    model.delete();
    throw new Error(`${name} takes ${found.dtype}, and manifest.json says ${entry.input.dtype}`);
  }
  const run = async (pixels) => {
    const tensor = new Tensor(toInput(pixels, entry.input), shapeOf(entry.input));
    const outputs = await model.run(tensor);
    tensor.delete();
    const values = outputs[0].toTypedArray();
    for (const output of outputs) output.delete();
    return values;
  };
  return { runtime: `LiteRT.js ${await versionOf("@litertjs/core")}`, run, release: () => model.delete() };
}

let ort;

async function startOrt() {
  const module = await import("onnxruntime-web");
  module.env.wasm.wasmPaths = `${MODULES}onnxruntime-web/dist/`;
  module.env.wasm.numThreads = 1; // more threads need headers (COOP, COEP) that a plain file server does not send
  return module;
}

async function loadOnnx(bytes, entry) {
  ort ??= startOrt();
  const { InferenceSession, Tensor } = await ort;
  const session = await InferenceSession.create(new Uint8Array(bytes), { executionProviders: ["wasm"] });
  const { input, output } = entry;
  const run = async (pixels) => {
    const tensor = new Tensor(input.dtype, toInput(pixels, input), shapeOf(input));
    const outputs = await session.run({ [input.name]: tensor });
    return outputs[output.name].data;
  };
  return {
    runtime: `ONNX Runtime Web ${await versionOf("onnxruntime-web")}`,
    run,
    release: () => session.release(),
  };
}

// The version that package.json pins and npm ci installs.
async function versionOf(name) {
  const wanted = await fetch("package.json").then((response) => response.json());
  return wanted.dependencies[name];
}
