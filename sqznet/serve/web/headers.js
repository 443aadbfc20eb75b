// Reads headers of photographs that some browsers ignore.

const ORIENTATION = 0x0112; // tag of EXIF

/**
 * @param {Uint8Array} bytes of an encoded image
 * @returns {boolean} whether it is a WebP file; Chromium ignores the EXIF orientation of those, other browsers apply it
 */
export function isWebp(bytes) {
  return textAt(bytes, 0, 4) === "RIFF" && textAt(bytes, 8, 4) === "WEBP";
}

/** The EXIF orientation of a WebP file, 1 to 8; 1 if there is none that can be read. */
export function webpOrientation(bytes) {
  const view = viewOf(bytes);
  try {
    for (let at = 12; at < bytes.length; ) {
      const size = view.getUint32(at + 4, true);
      if (textAt(bytes, at, 4) === "EXIF") return orientationOf(bytes.subarray(at + 8, at + 8 + size));
      at += 8 + size + (size % 2);
    }
  } catch (error) {
    if (!(error instanceof RangeError)) throw error; // DataView throws it where the file ends too early
  }
  return 1;
}

function orientationOf(exif) {
  const tiff = exif.subarray(textAt(exif, 0, 4) === "Exif" ? 6 : 0);
  const [view, little] = [viewOf(tiff), textAt(tiff, 0, 2) === "II"];
  const directory = view.getUint32(4, little);
  const entries = view.getUint16(directory, little);
  for (let at = directory + 2; at < directory + 2 + 12 * entries; at += 12) {
    if (view.getUint16(at, little) !== ORIENTATION) continue;
    const value = view.getUint16(at + 8, little);
    return value >= 1 && value <= 8 ? value : 1;
  }
  return 1;
}

/**
 * Whether an image is a CMYK JPEG with a colour profile. Chromium adds the black ink to the other three before it
 * applies the profile, which makes dark colours wrong.
 *
 * @param {Uint8Array} bytes of an encoded image
 */
export function isCmykJpegWithProfile(bytes) {
  if (bytes[0] !== 0xff || bytes[1] !== 0xd8) return false;
  let [inks, space] = [0, ""];
  for (let at = 2; at + 4 < bytes.length; ) {
    const marker = bytes[at + 1];
    if (bytes[at] !== 0xff || marker === 0xff) {
      at += 1; // stray or fill bytes
      continue;
    }
    if (marker === 0xda) break; // the pixels
    const isFrame = marker >= 0xc0 && marker <= 0xcf && ![0xc4, 0xc8, 0xcc].includes(marker);
    if (isFrame) inks = bytes[at + 9];
    const isProfile = marker === 0xe2 && textAt(bytes, at + 4, 11) === "ICC_PROFILE" && bytes[at + 16] === 1;
    if (isProfile) space = textAt(bytes, at + 18 + 16, 4);
    at += 2 + bytes[at + 2] * 256 + bytes[at + 3];
  }
  return inks === 4 && space === "CMYK";
}

function textAt(bytes, start, length) {
  return String.fromCharCode(...bytes.subarray(start, start + length));
}

function viewOf(bytes) {
  return new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
}
