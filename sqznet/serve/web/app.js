// The page: runs the chosen model file on the chosen photograph and shows the answer.

import { fetchBytes, loadBundle, sha256 } from "./bundle.js";
import { checkAnswers, checkPixels } from "./golden.js";
import { labelsOf } from "./labels.js";
import { decode, preprocess, show } from "./photo.js";
import { load, probabilities } from "./runtimes.js";
import { decode as decodeSqz } from "./sqz.js";
import { portsOf, toOnnx } from "./sqz_onnx.js";

const TOP = 5;
const TIMED_RUNS = 20;
const TIMED_MS = 1000; // no new timed run after that long

const at = (id) => document.getElementById(id);
let bundle = { files: [], golden: null }; // of loadBundle; a .sqz file works without a bundle
let network; // the chosen file: { name, entry, labels, preprocessing }, the last two as in the bundle
let model; // the chosen file in its runtime: { runtime, run, release }
let photo; // { bitmap, name }
let pixels; // of the photograph after preprocessing
const opened = new Map(); // .sqz files opened from this machine, by name

// Jobs run one after the other, because a runtime must not run twice at the same time.
let last = Promise.resolve();

function enqueue(job) {
  document.body.dataset.state = "busy";
  last = last.then(job).catch(complain);
  const mine = last;
  mine.then(() => {
    if (mine === last) document.body.dataset.state = "idle";
  });
}

function complain(error) {
  console.error(error);
  at("problem").textContent = error.message || String(error);
  at("problem").hidden = false;
}

async function start() {
  const [, sqz] = location.hash.match(/^#([\w.-]+\.sqz)$/) ?? [];
  try {
    bundle = await loadBundle();
  } catch (error) {
    if (!sqz) throw error;
  }
  const { files, golden } = bundle;
  if (!files.length && !sqz) throw new Error("the bundle has no .tflite or .onnx file");
  at("file").replaceChildren(...files.map((name) => new Option(name, name)));
  at("example").disabled = !golden;
  const wanted = files.find((name) => location.hash === `#${encodeURIComponent(name)}`);
  await choose(sqz ?? wanted ?? files[0]);
}

async function choose(name) {
  const offered = Array.from(at("file").options, (option) => option.value);
  if (!offered.includes(name)) at("file").add(new Option(name, name));
  at("file").value = name;
  at("file").disabled = false;
  await useFile(name);
}

async function useFile(name) {
  at("problem").hidden = true;
  clearAnswer();
  model?.release();
  model = network = undefined;
  clearDescription(name);
  model = await (isSqz(name) ? openSqz(name) : openListed(name)).catch((error) => {
    at("file-runtime").textContent = "–";
    throw error;
  });
  at("file-runtime").textContent = model.runtime;
  see();
  await testItself();
  await classify();
}

function isSqz(name) {
  return name.endsWith(".sqz");
}

async function openListed(name) {
  const { manifest, labels } = bundle;
  const entry = manifest.files[name];
  describe({ name, entry, labels, preprocessing: manifest.preprocessing });
  const bytes = await fetchBytes(name);
  at("file-bytes").textContent = grouped(bytes.byteLength);
  const intact = (await showHash(bytes)) === entry.sha256;
  const [state, words] = intact ? ["passed", "as in the manifest"] : ["failed", "differs from the manifest"];
  setVerdict(at("file-intact"), state, words);
  return run(bytes);
}

async function openSqz(name) {
  const local = opened.get(name);
  const bytes = await (local ? local.arrayBuffer() : fetchBytes(name));
  const size = local ? grouped(bytes.byteLength) : `${grouped(bytes.byteLength)} downloaded`;
  at("file-bytes").textContent = size;
  await showHash(bytes);
  const [stored, ms] = timed(() => decodeSqz(new Uint8Array(bytes)), `${name} cannot be decoded`);
  at("file-bytes").textContent = `${size}, decoded in ${Math.round(ms)} ms`;
  setVerdict(at("file-intact"), "passed", "its checksum is correct");
  const { image_size, resize_to, resize, interpolation, antialias } = stored;
  const preprocessing = { image_size, resize_to, resize, interpolation, antialias };
  describe({ name, entry: portsOf(stored), labels: await labelsOf(stored), preprocessing });
  return run(toOnnx(stored));
}

function timed(job, failure) {
  const began = performance.now();
  try {
    return [job(), performance.now() - began];
  } catch (error) {
    throw new Error(`${failure}: ${error.message}`);
  }
}

function run(bytes) {
  const { name, entry } = network;
  return load(name, bytes, entry).catch((error) => {
    throw new Error(`${name} cannot be run: ${error.message ?? error}`);
  });
}

function clearDescription(name) {
  at("file-name").textContent = name;
  at("file-runtime").textContent = "loading…";
  for (const id of ["file-input", "file-output", "file-bytes", "file-sha256"]) at(id).textContent = "–";
  setVerdict(at("file-intact"), "pending", "");
  for (const id of ["golden", "resize"]) showTest(id, "pending");
  at("again").disabled = true;
}

function describe(chosen) {
  network = chosen;
  const { entry, labels, preprocessing } = network;
  const port = ({ dtype, shape }) => `${dtype} (${shape.map((side) => side ?? "any").join(", ")})`;
  const { input, output } = entry;
  at("file-input").textContent = `${port(input)} ${input.layout}, ${input.colour_order} ${input.range.join("–")}`;
  at("file-output").textContent = port(output) + (output.scale === 1 ? "" : `, in steps of 1/${1 / output.scale}`);
  const files = at("file").length;
  at("about").textContent =
    `${labels.length.toLocaleString("en")} classes, ${files} file${files > 1 ? "s" : ""} to run`;
  at("steps").textContent = preprocessing.steps ? `Preprocessing: ${preprocessing.steps}.` : "";
}

async function showHash(bytes) {
  const found = await sha256(bytes);
  at("file-sha256").textContent = found;
  return found;
}

function grouped(bytes) {
  return `${bytes.toLocaleString("en")} bytes`;
}

async function testItself() {
  const { name, entry, preprocessing } = network;
  if (isSqz(name)) {
    for (const id of ["golden", "resize"]) showTest(id, "pending", "A .sqz file has no recorded answers.");
    return;
  }
  at("again").disabled = false;
  const { golden } = bundle;
  if (!golden) {
    for (const id of ["golden", "resize"]) showTest(id, "failed", "The bundle has no golden/golden.json.");
    return;
  }
  await test("golden", async () => {
    const { passed, count, largest, tolerance, top1 } = await checkAnswers(name, model, entry, golden);
    const figures =
      `Same top-1 class for ${top1} of ${count}; largest difference of a probability ` +
      `${number(largest)} (allowed ${number(tolerance)}).`;
    return { passed, figures };
  });
  await test("resize", async () => {
    const { passed, largest, mean, limit } = await checkPixels(golden, preprocessing);
    const figures = `Mean difference ${number(mean)} of 255 levels (allowed ${limit}), largest ${largest}.`;
    return { passed, figures };
  });
}

async function test(id, run) {
  showTest(id, "running");
  try {
    const { passed, figures } = await run();
    showTest(id, passed ? "passed" : "failed", figures);
  } catch (error) {
    showTest(id, "failed", error.message);
  }
}

function showTest(id, state, figures = "") {
  const words = { pending: "", running: "running…", passed: "passed", failed: "failed" };
  at(id).dataset.state = state;
  setVerdict(at(id).querySelector(".verdict"), state, words[state]);
  at(id).querySelector(".figures").textContent = figures;
}

function setVerdict(element, state, words) {
  element.dataset.state = state;
  element.textContent = words;
}

async function usePhoto(blob, name) {
  await useImage(await decode(blob), name);
}

async function useImage(bitmap, name) {
  at("problem").hidden = true;
  photo?.bitmap.close();
  photo = { bitmap, name };
  see();
  clearAnswer();
  await classify();
}

// Preprocesses the photograph for the chosen network and shows the result.
function see() {
  if (!photo || !network) return;
  const { preprocessing } = network;
  const { name, bitmap } = photo;
  const { width, height } = bitmap;
  pixels = preprocess(bitmap, width, height, preprocessing);
  show(pixels, preprocessing.image_size, at("seen"));
  at("seen").setAttribute("aria-label", `${name}, as the network sees it`);
  at("hint").hidden = true;
  at("drop").dataset.full = "true";
  const sides = (...pair) => pair.join("\u00a0×\u00a0"); // no line break
  const size = sides(preprocessing.image_size, preprocessing.image_size);
  at("seen-note").textContent = `${name}, ${sides(width, height)}: as the network sees it, ${size}.`;
}

async function classify() {
  if (!pixels || !model) return;
  const raw = await model.run(pixels);
  showAnswer(probabilities(raw, network.entry.output));
  await new Promise(requestAnimationFrame); // shows the answer before the timing starts
  const times = [];
  const began = performance.now();
  while (times.length < TIMED_RUNS && performance.now() - began < TIMED_MS) {
    const before = performance.now();
    await model.run(pixels);
    times.push(performance.now() - before);
  }
  at("latency").textContent = `${median(times).toFixed(1)} ms, median of ${times.length} runs in ${model.runtime}`;
}

function clearAnswer() {
  at("results").dataset.state = "empty";
  at("results").replaceChildren();
  at("answer").textContent = pixels ? "…" : "Choose a photograph";
  at("latency").textContent = "";
}

function showAnswer(shares) {
  const order = Array.from(shares.keys()).sort((a, b) => shares[b] - shares[a] || a - b);
  const best = order.slice(0, TOP);
  at("answer").textContent = network.labels[best[0]];
  at("results").replaceChildren(...best.map((index) => bar(index, shares[index])));
  at("results").dataset.state = "ready";
}

function bar(index, share) {
  const item = document.createElement("li");
  Object.assign(item.dataset, { output: index, probability: share });
  const [label, percent, track, fill] = ["label", "percent", "track", "fill"].map((name) => {
    const part = document.createElement("span");
    part.className = name;
    return part;
  });
  label.textContent = network.labels[index];
  percent.textContent = `${(100 * share).toFixed(1)} %`;
  fill.style.width = `${100 * share}%`;
  track.append(fill);
  track.setAttribute("aria-hidden", "true");
  item.append(label, track, percent);
  return item;
}

function median(values) {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = Math.floor(sorted.length / 2);
  return sorted.length % 2 ? sorted[middle] : (sorted[middle - 1] + sorted[middle]) / 2;
}

function number(value) {
  return value && Math.abs(value) < 0.001 ? value.toExponential(1) : String(Number(value.toPrecision(2)));
}

// The first press of the button starts the camera, the second takes the picture.

async function pressCamera() {
  const video = at("camera");
  if (!video.hidden) {
    if (!video.videoWidth) return; // no picture yet
    const frame = await createImageBitmap(video);
    stopCamera();
    enqueue(() => useImage(frame, "Camera picture"));
    return;
  }
  try {
    video.srcObject = await navigator.mediaDevices.getUserMedia({ video: { facingMode: "environment" } });
  } catch (error) {
    throw new Error(`the camera cannot be used: ${error.message}`);
  }
  video.hidden = false;
  at("seen").hidden = at("hint").hidden = true;
  at("camera-button").textContent = "Take the picture";
  await video.play();
}

function stopCamera() {
  const video = at("camera");
  for (const track of video.srcObject?.getTracks() ?? []) track.stop();
  video.srcObject = null;
  video.hidden = true;
  at("seen").hidden = false;
  at("hint").hidden = at("drop").dataset.full === "true";
  at("camera-button").textContent = "Use the camera";
}

function takePhoto(file) {
  if (!file) return;
  stopCamera();
  enqueue(() => usePhoto(file, file.name));
}

function takeSqz(file) {
  if (!file) return;
  enqueue(() => {
    opened.set(file.name, file);
    return choose(file.name);
  });
}

at("file").addEventListener("change", (event) => {
  const name = event.target.value;
  history.replaceState(null, "", opened.has(name) ? "#" : `#${encodeURIComponent(name)}`);
  enqueue(() => useFile(name));
});
at("sqz").addEventListener("change", (event) => {
  takeSqz(event.target.files[0]);
  event.target.value = "";
});
at("photo").addEventListener("change", (event) => {
  takePhoto(event.target.files[0]);
  event.target.value = ""; // so that choosing the same file again is a change
});
at("camera-button").addEventListener("click", () => pressCamera().catch(complain));
at("example").addEventListener("click", () => {
  stopCamera();
  enqueue(async () => usePhoto(new Blob([await fetchBytes(`golden/${bundle.golden.photo}`)]), bundle.golden.photo));
});
at("again").addEventListener("click", () => enqueue(() => model && testItself()));
for (const kind of ["dragenter", "dragover", "dragleave", "drop"]) {
  document.addEventListener(kind, (event) => {
    event.preventDefault();
    document.body.classList.toggle("dragging", kind === "dragenter" || kind === "dragover");
    if (kind !== "drop") return;
    const [file] = event.dataTransfer.files;
    if (file && isSqz(file.name)) takeSqz(file);
    else takePhoto(file);
  });
}
enqueue(start);
