// One interface to both runtimes, from pixels to raw outputs. Each runtime is loaded with the first file that needs it.

const MODULES = new URL("node_modules/", document.baseURI).href;
const ARRAYS = { float32: Float32Array, uint8: Uint8Array };
const DEVICES = { "webnn-npu": "npu", "webnn-gpu": "gpu" };

/** What can run a file, and how the page calls it. Every browser has the first. */
export const BACKENDS = {
  wasm: "WebAssembly",
  webgpu: "WebGPU",
  "webnn-npu": "WebNN (NPU)",
  "webnn-gpu": "WebNN (GPU)",
};

/** The backends beside WebAssembly whose interface this browser has. They may still have no device, or refuse a file. */
export function accelerators() {
  return Object.keys(BACKENDS).filter(
    (backend) => (backend === "webgpu" && navigator.gpu) || (backend in DEVICES && navigator.ml),
  );
}

// Asks the browser itself for the device: a runtime that does not get one may wait for it forever.
async function requireDevice(backend) {
  if (backend === "webgpu" && !(await navigator.gpu.requestAdapter())) throw new Error("this machine has no GPU for it");
  if (backend in DEVICES) (await navigator.ml.createContext({ deviceType: DEVICES[backend] })).destroy?.();
}

/**
 * Loads a model file into its runtime.
 *
 * @param {string} name of the file
 * @param {ArrayBuffer} bytes its content
 * @param {object} entry of the file in manifest.json
 * @param {string} backend a key of BACKENDS
 * @returns {Promise<{runtime: string, run: Function, runWithMap: Function, release: Function}>}
 *   `run` takes RGB pixels (size, size, 3), 0..255, and returns the raw output (classes,). `runWithMap` returns it with
 *   the class map (side, side, classes), as [raw, map]; the entry must have a `class_map`. Neither must be called again
 *   before its promise settles.
 */
export async function load(name, bytes, entry, backend = "wasm") {
  for (const [port, { dtype }] of [["input", entry.input], ["output", entry.output]]) {
    if (!(dtype in ARRAYS)) throw new Error(`${name} has an ${port} of ${dtype}; this page supports float32 and uint8`);
  }
  await requireDevice(backend);
  return name.endsWith(".tflite") ? loadTflite(name, bytes, entry, backend) : loadOnnx(bytes, entry, backend);
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

// Promises of the modules, after the first use. Each runtime has one copy for WebAssembly and one for the other
// backends, so that a backend that hangs does not stop WebAssembly.
const started = {};

async function startLiteRt(accelerated) {
  // With another address, the browser makes a second copy of the module.
  const core = await (accelerated
    ? import(`${MODULES}@litertjs/core/dist/index.js?accelerated`)
    : import("@litertjs/core"));
  // WebNN needs JSPI. With it, WebGPU runs also files of which it supports only a part.
  await core.loadLiteRt(`${MODULES}@litertjs/core/wasm/`, { jspi: accelerated && "Suspending" in WebAssembly });
  return core;
}

async function loadTflite(name, bytes, entry, backend) {
  const accelerated = backend !== "wasm";
  const { Tensor, loadAndCompile } = await (started[`LiteRT ${accelerated}`] ??= startLiteRt(accelerated));
  const device = DEVICES[backend];
  const accelerator = device ? "webnn" : backend;
  const model = await loadAndCompile(new Uint8Array(bytes), {
    accelerator,
    gpuOptions: { precision: "fp32" },
    webNNOptions: { devicePreference: device, precision: "fp32" },
  });
  const [found] = model.getInputDetails();
  const problem =
    found.dtype !== entry.input.dtype
      ? `${name} takes ${found.dtype}, and manifest.json says ${entry.input.dtype}`
      : model.options.accelerator !== accelerator && `it does not support all operators of ${name}`;
  if (problem) {
    model.delete();
    throw new Error(problem);
  }
  // The outputs are found by name: LiteRT may order them in another way than the file.
  const names = model.getOutputDetails().map((output) => output.name);
  const outputsOf = async (pixels, ports) => {
    const tensor = new Tensor(toInput(pixels, entry.input), shapeOf(entry.input));
    const outputs = await model.run(tensor);
    tensor.delete();
    const values = [];
    for (const { name } of ports) values.push(await outputs[names.length > 1 ? names.indexOf(name) : 0].data());
    for (const output of outputs) output.delete();
    return values;
  };
  return {
    runtime: `LiteRT.js ${await versionOf("@litertjs/core")}`,
    run: async (pixels) => (await outputsOf(pixels, [entry.output]))[0],
    runWithMap: (pixels) => outputsOf(pixels, [entry.output, entry.class_map]),
    release: () => model.delete(),
  };
}

async function startOrt(accelerated) {
  const module = await (accelerated ? import("onnxruntime-web/webgpu") : import("onnxruntime-web"));
  module.env.wasm.wasmPaths = `${MODULES}onnxruntime-web/dist/`;
  module.env.wasm.numThreads = 1; // more threads need headers (COOP, COEP) that a plain file server does not send
  return module;
}

async function loadOnnx(bytes, entry, backend) {
  const accelerated = backend !== "wasm";
  const { InferenceSession, Tensor } = await (started[`ORT ${accelerated}`] ??= startOrt(accelerated));
  const device = DEVICES[backend];
  const provider = device ? { name: "webnn", deviceType: device } : backend;
  const session = await InferenceSession.create(new Uint8Array(bytes), { executionProviders: [provider] });
  const { input } = entry;
  const outputsOf = async (pixels, ports) => {
    const tensor = new Tensor(input.dtype, toInput(pixels, input), shapeOf(input));
    const names = ports.map(({ name }) => name);
    const outputs = await session.run({ [input.name]: tensor }, names);
    return names.map((name) => outputs[name].data);
  };
  return {
    runtime: `ONNX Runtime Web ${await versionOf("onnxruntime-web")}`,
    run: async (pixels) => (await outputsOf(pixels, [entry.output]))[0],
    runWithMap: (pixels) => outputsOf(pixels, [entry.output, entry.class_map]),
    release: () => session.release(),
  };
}

// The version that package.json pins and npm ci installs.
async function versionOf(name) {
  const wanted = await fetch("package.json").then((response) => response.json());
  return wanted.dependencies[name];
}
