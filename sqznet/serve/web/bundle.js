// Loads the exported bundle that manifest.json describes.

/** Folder of the bundle, relative to the page. */
const FOLDER = new URL("model/", document.baseURI);

/** The model card of the bundle. */
export const CARD = "MODEL_CARD.md";

// The preprocessing that photo.js implements; a bundle that needs another one is refused.
const KNOWN = { colour_order: "RGB", colour_space: "sRGB", orientation: "applied", transparency: "white" };

/** The bytes of one of the bundle's files, as an ArrayBuffer. */
export async function fetchBytes(name) {
  const response = await fetch(new URL(name, FOLDER), { cache: "no-store" });
  if (!response.ok) throw new Error(`${name} cannot be loaded: ${response.status} ${response.statusText}`);
  return response.arrayBuffer();
}

export async function fetchText(name) {
  return new TextDecoder().decode(await fetchBytes(name));
}

/**
 * Manifest, labels and golden answers.
 *
 * @returns {Promise<{manifest: object, labels: string[], golden: object|null, files: string[], title: string|null}>}
 *   `files`: the names of the files that a browser can run; `golden`: golden.json, or null if the bundle has none;
 *   `title`: the name of the model in MODEL_CARD.md, or null if the bundle has none.
 */
export async function loadBundle() {
  const manifest = JSON.parse(await fetchText("manifest.json"));
  const labels = lines(await fetchText(manifest.labels?.file ?? "labels.txt"));
  for (const [rule, known] of Object.entries(KNOWN)) {
    const wanted = manifest.preprocessing?.[rule] ?? known; // bundles of earlier versions lack some of them
    if (wanted !== known) {
      throw new Error(`${rule} is ${wanted}, this page supports ${known}: it is older than the bundle`);
    }
  }
  const golden = await fetchText("golden/golden.json").then(JSON.parse, () => null);
  const title = await fetchText(CARD).then(titleOf, () => null);
  const files = Object.keys(manifest.files).filter((name) => /\.(tflite|onnx)$/.test(name));
  return { manifest, labels, golden, title, files: files.sort(byRuntimeThenSize(manifest)) };
}

// The first heading of a model card, behind its header for model hubs; Markdown's escapes are removed.
function titleOf(card) {
  const [, heading] = card.replace(/^---\n.*?\n---\n/s, "").match(/^# (.+)$/m) ?? [];
  return heading?.replace(/\\([^\w\s])/g, "$1") ?? null;
}

// Splits at these line ends only and trims nothing: the name of a class may contain other line ends, and spaces.
function lines(text) {
  return text.replace(/\r?\n$/, "").split(/\r?\n/);
}

function byRuntimeThenSize(manifest) {
  const size = (name) => manifest.files[name].bytes;
  const key = (name) => [name.endsWith(".tflite") ? 0 : 1, manifest.files[name].input.layout === "NCHW" ? 1 : 0];
  return (a, b) => key(a)[0] - key(b)[0] || key(a)[1] - key(b)[1] || size(b) - size(a);
}

/** SHA-256 of an ArrayBuffer, in hexadecimal digits. */
export async function sha256(bytes) {
  const digest = new Uint8Array(await crypto.subtle.digest("SHA-256", bytes));
  return Array.from(digest, (byte) => byte.toString(16).padStart(2, "0")).join("");
}
