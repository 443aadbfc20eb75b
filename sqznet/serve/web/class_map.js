// Draws where in a photograph a class is seen, as sqznet/predict/class_maps.py does.
//
// A class map has a score for each class at each place, (side, side, classes). The softmax of its average over rows and
// columns gives the probabilities. The photograph is drawn in grey. A place with the largest score of the class is red,
// a lower score is more yellow and paler, and a place with a score of 0 or below stays grey.

const LUMA = [0.299, 0.587, 0.114]; // of red, green and blue in a grey pixel
const STRONGEST = 0.7; // opacity of the colour at the largest score
const [RED, GREEN_AT_ZERO] = [255, 210];

/** The scores of one class, (side, side), of a class map. */
export function scoresOf(map, index, classes) {
  return Float32Array.from({ length: map.length / classes }, (_, cell) => map[cell * classes + index]);
}

/**
 * @param {Uint8Array} pixels the input of the network, RGB (size, size, 3)
 * @param {number} size of the input
 * @param {Float32Array} scores of one class, (side, side)
 * @param {{side: number, stride: number, offset: number}} grid `class_map` of the file in manifest.json
 * @returns {Uint8Array} RGB (size, size, 3)
 */
export function drawMap(pixels, size, scores, { side, stride, offset }) {
  const largest = scores.reduce((one, other) => Math.max(one, other));
  const shares = scores.map((score) => (largest > 0 ? Math.max(0, score / largest) : 0));
  const cells = Array.from({ length: size }, (_, place) => cellsAt((place + 0.5 - offset) / stride, side));
  const drawn = new Uint8Array(pixels.length);
  for (let row = 0; row < size; row++) {
    const [above, below, down] = cells[row];
    for (let column = 0; column < size; column++) {
      const [left, right, across] = cells[column];
      const between = (cell) => (1 - across) * shares[cell * side + left] + across * shares[cell * side + right];
      const strength = (1 - down) * between(above) + down * between(below);
      const at = 3 * (row * size + column);
      const grey = LUMA[0] * pixels[at] + LUMA[1] * pixels[at + 1] + LUMA[2] * pixels[at + 2];
      const opacity = STRONGEST * strength;
      const colour = [RED, GREEN_AT_ZERO * (1 - strength), 0];
      for (let each = 0; each < 3; each++) {
        drawn[at + each] = Math.round((1 - opacity) * grey + opacity * colour[each]);
      }
    }
  }
  return drawn;
}

// The two cells around a place, and the share of the second. Beyond the outermost cells the nearest one counts alone.
function cellsAt(place, side) {
  const inside = Math.min(side - 1, Math.max(0, place));
  const first = Math.floor(inside);
  return [first, Math.min(side - 1, first + 1), inside - first];
}
