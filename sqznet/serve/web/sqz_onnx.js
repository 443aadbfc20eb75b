// Writes a decoded `.sqz` file as an ONNX model, which ONNX Runtime Web can run: the network of sqznet/network/model.py
// with its softmax. The protocol buffers are written by hand.
//
// Input `image`, float32 RGB pixels 0..255 (1, 3, size, size): the page converts pixels to planes, so the graph has no
// transpose. Outputs `probabilities`, float32 (1, classes), and `class_map`, float32 (1, side, side, classes).

const IR_VERSION = 8; // of the opset's release
const OPSET = 17;
const FLOAT = 1; // TensorProto.DataType
const POOLED_AFTER = { "v1.0": ["conv1", "fire4", "fire8"], "v1.1": ["conv1", "fire3", "fire5"] };
const FIRES = ["fire2", "fire3", "fire4", "fire5", "fire6", "fire7", "fire8", "fire9"];
const SIMPLY_BYPASSED = ["fire3", "fire5", "fire7", "fire9"];
const ACTIVATIONS = { relu: "Relu", elu: "Elu" };

/**
 * The input and output of a network's ONNX model, in the form of manifest.json.
 *
 * @param {object} network of sqz.decode
 */
export function portsOf(network) {
  const { image_size: size, classes } = network;
  const grid = gridOf(network);
  return {
    input: {
      name: "image",
      dtype: "float32",
      shape: [1, 3, size, size],
      layout: "NCHW",
      colour_order: "RGB",
      range: [0, 255],
    },
    output: { name: "probabilities", dtype: "float32", shape: [1, classes], scale: 1, zero_point: 0 },
    class_map: { name: "class_map", dtype: "float32", shape: [1, grid.side, grid.side, classes], ...grid },
  };
}

// The places of the cells of the class map, as in sqznet/network/class_map.py.
function gridOf({ arch, layers, image_size: size, conv10_padding: padding }) {
  const [kernel] = layers.conv1.shape;
  let [side, stride, offset] = [Math.floor((size - kernel) / 2) + 1, 2, kernel / 2];
  for (const _ of POOLED_AFTER[arch]) [side, stride, offset] = [Math.floor(side / 2), 2 * stride, offset + stride];
  return { side: side + 2 * padding, stride, offset: offset - padding * stride };
}

/**
 * @param {object} network of sqz.decode
 * @returns {Uint8Array} the bytes of an .onnx file
 * @throws {Error} the images are too small for the pooling layers
 */
export function toOnnx(network) {
  const { input, output, class_map: map } = portsOf(network);
  const { nodes, weights } = graphOf(network, input.name, output.name, map.name);
  const graph = [
    ...nodes.flatMap((each) => message(1, each)),
    ...text(2, "squeezenet"),
    ...weights.flatMap((each) => message(5, each)),
    ...message(11, port(input)),
    ...message(12, port(output)),
    ...message(12, port(map)),
  ];
  const opset = [...text(1, ""), ...integer(2, OPSET)];
  return joined([...integer(1, IR_VERSION), ...text(2, "sqznet"), ...message(7, graph), ...message(8, opset)]);
}

function graphOf(network, image, probabilities, classMap) {
  const { arch, activation, bypass, layers, image_size: size } = network;
  const [nodes, weights] = [[], []];
  let side = Math.floor((size - layers.conv1.shape[0]) / 2) + 1; // of the feature map between two pools

  const add = (type, inputs, output, attributes = {}) => {
    nodes.push(node(type, inputs, output, attributes));
    return output;
  };
  const constant = (name, dims, values) => {
    weights.push(tensor(name, dims, values));
    return name;
  };
  const convolve = (x, name, { stride = 1, pad = 0, activate = true } = {}) => {
    const {
      shape: [height, width, channels, filters],
      kernel,
      bias,
    } = layers[name];
    const planes = constant(`${name}_kernel`, [filters, channels, height, width], outermost(kernel, channels, filters));
    const inputs = [x, planes, constant(`${name}_bias`, [filters], bias)];
    const map = add("Conv", inputs, name, { strides: [stride, stride], pads: [pad, pad, pad, pad] });
    return activate ? add(ACTIVATIONS[activation], [map], `${name}_${activation}`) : map;
  };
  const poolIfDue = (x, after) => {
    if (!POOLED_AFTER[arch].includes(after)) return x;
    if (side < 3) throw new Error(`images of ${size} pixels leave too little to pool after ${after}`);
    side = Math.floor(side / 2);
    // Caffe's ceil mode: on an even side the last window reaches into the padding; on an odd side no window does.
    return add("MaxPool", [x], `${after}_pool`, { kernel_shape: [3, 3], strides: [2, 2], pads: [0, 0, 1, 1] });
  };
  const fire = (x, name) => {
    const squeezed = convolve(x, `${name}_squeeze1x1`);
    const branches = [convolve(squeezed, `${name}_expand1x1`), convolve(squeezed, `${name}_expand3x3`, { pad: 1 })];
    const expanded = add("Concat", branches, name, { axis: 1 });
    const simply = SIMPLY_BYPASSED.includes(name);
    if (bypass === "none" || (bypass === "simple" && !simply)) return expanded;
    const around = simply ? x : convolve(x, `${name}_bypass1x1`, { activate: false });
    return add("Add", [expanded, around], `${name}_bypass`);
  };

  const means = constant("means", [1, 3, 1, 1], Float32Array.from(network.channel_means));
  const deviations = constant("deviations", [1, 3, 1, 1], Float32Array.from(network.channel_deviations));
  let x = add("Div", [add("Sub", [image, means], "centred"), deviations], "normalised");
  x = poolIfDue(convolve(x, "conv1", { stride: 2 }), "conv1");
  for (const name of FIRES) x = poolIfDue(fire(x, name), name);
  x = convolve(x, "conv10", { pad: network.conv10_padding });
  add("Transpose", [x], classMap, { perm: [0, 2, 3, 1] });
  const logits = add("Flatten", [add("GlobalAveragePool", [x], "averages")], "logits");
  add("Softmax", [logits], probabilities, { axis: 1 });
  return { nodes, weights };
}

// Transposes kernels (height, width, in, out) to ONNX's (out, in, height, width).
function outermost(kernel, channels, filters) {
  const turned = new Float32Array(kernel.length);
  const taps = kernel.length / channels / filters;
  let from = 0;
  for (let tap = 0; tap < taps; tap++) {
    for (let channel = 0; channel < channels; channel++) {
      for (let filter = 0; filter < filters; filter++) {
        turned[(filter * channels + channel) * taps + tap] = kernel[from++];
      }
    }
  }
  return turned;
}

// Protocol buffers. A message is a list of byte arrays, joined once at the end, so that weights are copied once.

function node(type, inputs, output, attributes) {
  return [
    ...inputs.flatMap((each) => text(1, each)),
    ...text(2, output),
    ...text(3, output),
    ...text(4, type),
    ...Object.entries(attributes).flatMap(([name, value]) => message(5, attribute(name, value))),
  ];
}

function attribute(name, value) {
  const [INT, INTS] = [2, 7];
  if (Array.isArray(value))
    return [...text(1, name), ...value.flatMap((each) => integer(8, each)), ...integer(20, INTS)];
  return [...text(1, name), ...integer(3, value), ...integer(20, INT)];
}

function tensor(name, dims, values) {
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength); // little-endian, as on every machine with a browser
  return [...dims.flatMap((each) => integer(1, each)), ...integer(2, FLOAT), ...text(8, name), ...message(9, [bytes])];
}

function port({ name, shape }) {
  const dims = shape.flatMap((side) => message(1, integer(1, side)));
  const ofTensor = [...integer(1, FLOAT), ...message(2, dims)];
  return [...text(1, name), ...message(2, message(1, ofTensor))];
}

function integer(field, value) {
  return [varint(field << 3), varint(value)];
}

function text(field, value) {
  return message(field, [new TextEncoder().encode(value)]);
}

function message(field, pieces) {
  return [varint((field << 3) | 2), varint(lengthOf(pieces)), ...pieces];
}

function varint(value) {
  const bytes = [];
  for (; value > 127; value >>>= 7) bytes.push((value & 127) | 128);
  return Uint8Array.from([...bytes, value]);
}

function lengthOf(pieces) {
  return pieces.reduce((sum, piece) => sum + piece.length, 0);
}

function joined(pieces) {
  const bytes = new Uint8Array(lengthOf(pieces));
  let place = 0;
  for (const piece of pieces) {
    bytes.set(piece, place);
    place += piece.length;
  }
  return bytes;
}
