// Readable class names of a `.sqz` file: converts WordNet ids to words, as sqznet/network/labels.py does.

/**
 * @param {object} network of sqz.decode
 * @returns {Promise<string[]>} a label for each output; "class 7" if neither the file nor this page has a name
 */
export async function labelsOf({ class_names: names, classes }) {
  const numbered = Array.from({ length: classes }, (_, index) => `class ${index}`);
  if (names === null) return numbered;
  const ids = (name) => /^n\d{8}$/.test(name);
  if (names !== "imagenet" && !names.some(ids)) return names;
  const words = await imagenet();
  if (names === "imagenet") return words.size === classes ? [...words.values()] : numbered;
  return names.map((name) => words.get(name) ?? name);
}

// Words by WordNet id, in the order of ImageNet's labels; empty if the list is not beside the page.
async function imagenet() {
  const response = await fetch(new URL("imagenet_classes.txt", document.baseURI));
  const lines = response.ok ? (await response.text()).trimEnd().split("\n") : [];
  return new Map(lines.map((line) => [line.slice(0, line.indexOf(" ")), line.slice(line.indexOf(" ") + 1)]));
}
