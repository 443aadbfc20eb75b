// The page: what is chosen goes through the model, what comes out is shown.

import { fetchBytes, loadBundle, sha256 } from "./bundle.js";
import { checkAnswers, checkPixels } from "./golden.js";
import { decode, preprocess, show } from "./photo.js";
import { load, probabilities } from "./runtimes.js";

const TOP = 5;
const TIMED_RUNS = 20;
const TIMED_MS = 1000; // no new timed run after that long

const at = (id) => document.getElementById(id);
let bundle; // of loadBundle
let model; // { name, entry, runtime, run, release }
let pixels; // of the photograph, as the network sees it

// One thing at a time, in the order it was asked for: the runtimes are not to be entered twice.
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
  bundle = await loadBundle();
  const { manifest, labels, files, golden } = bundle;
  if (!files.length) throw new Error("the bundle has no .tflite or .onnx file");
  at("about").textContent = `${labels.length.toLocaleString("en")} classes, ${files.length} files to run`;
  at("steps").textContent = manifest.preprocessing.steps ? `Preprocessing: ${manifest.preprocessing.steps}.` : "";
  at("file").replaceChildren(...files.map((name) => new Option(name, name)));
  const wanted = files.find((name) => location.hash === `#${encodeURIComponent(name)}`);
  if (wanted) at("file").value = wanted;
  at("file").disabled = at("again").disabled = false;
  at("example").disabled = !golden;
  await useFile(at("file").value);
}

async function useFile(name) {
  at("problem").hidden = true;
  clearAnswer();
  showTest("golden", "pending");
  model?.release();
  model = undefined;
  const entry = bundle.manifest.files[name];
  describe(name, entry);
  const bytes = await fetchBytes(name);
  await checkHash(bytes, entry);
  const loaded = await load(name, bytes, entry).catch((error) => {
    at("file-runtime").textContent = "–";
    throw new Error(`${name} cannot be run: ${error.message ?? error}`);
  });
  model = { name, entry, ...loaded };
  at("file-runtime").textContent = model.runtime;
  await testItself();
  await classify();
}

function describe(name, entry) {
  const port = ({ dtype, shape }) => `${dtype} (${shape.map((side) => side ?? "any").join(", ")})`;
  const { input, output } = entry;
  at("file-name").textContent = name;
  at("file-runtime").textContent = "loading…";
  at("file-input").textContent = `${port(input)} ${input.layout}, ${input.colour_order} ${input.range.join("–")}`;
  at("file-output").textContent = port(output) + (output.scale === 1 ? "" : `, in steps of 1/${1 / output.scale}`);
  at("file-bytes").textContent = "–";
  at("file-sha256").textContent = "–";
  setVerdict(at("file-intact"), "pending", "");
}

async function checkHash(bytes, entry) {
  at("file-bytes").textContent = `${bytes.byteLength.toLocaleString("en")} bytes`;
  const found = await sha256(bytes);
  at("file-sha256").textContent = found;
  const intact = found === entry.sha256;
  setVerdict(at("file-intact"), intact ? "passed" : "failed", intact ? "as in the manifest" : "not the manifest’s");
}

async function testItself() {
  const { golden, manifest } = bundle;
  if (!golden) {
    for (const id of ["golden", "resize"]) showTest(id, "failed", "The bundle has no golden/golden.json.");
    return;
  }
  await test("golden", async () => {
    const { passed, count, largest, tolerance, top1 } = await checkAnswers(model.name, model, model.entry, golden);
    const figures =
      `Likeliest class the same for ${top1} of ${count}; largest difference of a probability ` +
      `${number(largest)} (allowed ${number(tolerance)}).`;
    return { passed, figures };
  });
  await test("resize", async () => {
    const { passed, largest, mean, limit } = await checkPixels(golden, manifest.preprocessing);
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
  const bitmap = await decode(blob);
  await useImage(bitmap, bitmap.width, bitmap.height, name);
  bitmap.close();
}

async function useImage(image, width, height, name) {
  at("problem").hidden = true;
  const { preprocessing } = bundle.manifest;
  pixels = preprocess(image, width, height, preprocessing);
  clearAnswer();
  show(pixels, preprocessing.image_size, at("seen"));
  at("seen").setAttribute("aria-label", `${name}, as the network sees it`);
  at("hint").hidden = true;
  at("drop").dataset.full = "true";
  const sides = (...pair) => pair.join("\u00a0×\u00a0"); // kept on one line
  const size = sides(preprocessing.image_size, preprocessing.image_size);
  at("seen-note").textContent = `${name}, ${sides(width, height)}: as the network sees it, ${size}.`;
  await classify();
}

async function classify() {
  if (!pixels || !model) return;
  const raw = await model.run(pixels);
  showAnswer(probabilities(raw, model.entry.output));
  await new Promise(requestAnimationFrame); // the answer first
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
  at("answer").textContent = bundle.labels[best[0]];
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
  label.textContent = bundle.labels[index];
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

// The camera: the first press starts it, the second takes the picture.

async function pressCamera() {
  const video = at("camera");
  if (!video.hidden) {
    const [width, height] = [video.videoWidth, video.videoHeight];
    if (!width) return; // no picture yet
    const frame = await createImageBitmap(video);
    stopCamera();
    enqueue(async () => {
      await useImage(frame, width, height, "Camera picture");
      frame.close();
    });
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

at("file").addEventListener("change", (event) => {
  const name = event.target.value;
  history.replaceState(null, "", `#${encodeURIComponent(name)}`);
  enqueue(() => useFile(name));
});
at("photo").addEventListener("change", (event) => {
  takePhoto(event.target.files[0]);
  event.target.value = ""; // the same file again is a change, too
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
    if (kind === "drop") takePhoto(event.dataTransfer.files[0]);
  });
}
enqueue(start);
