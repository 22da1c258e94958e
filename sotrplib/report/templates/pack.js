// Columns of numbers and words that packs.py put into the page: {words, arrays by name}.
const unpack = async (id) => {
  const text = document.getElementById(id).textContent.trim();
  if (!text) return null;
  const bytes = Uint8Array.from(atob(text), (c) => c.charCodeAt(0));
  const stream = new Blob([bytes]).stream().pipeThrough(new DecompressionStream("deflate"));
  const whole = await new Response(stream).arrayBuffer();
  const size = new DataView(whole).getUint32(0, true);
  const { arrays, words } = JSON.parse(new TextDecoder().decode(new Uint8Array(whole, 4, size)));
  const kinds = { Float32Array, Float64Array, Int32Array, Uint8Array };
  const read = ([kind, offset, length]) => new kinds[kind](whole, 4 + size + offset, length);
  return { words, ...Object.fromEntries(Object.entries(arrays).map(([name, place]) => [name, read(place)])) };
};

const number = (value, digits = 3) => {
  if (!Number.isFinite(value)) return "–";
  const text = Math.abs(value) >= 1e5 || (value && Math.abs(value) < 1e-3) ? value.toExponential(1) : String(+value.toPrecision(digits));
  return text.replace("-", "−");
};

// Round numbers from low to high, about so many.
const ticks = (low, high, about) => {
  const raw = (high - low) / about, power = 10 ** Math.floor(Math.log10(raw));
  const step = power * [1, 2, 5, 10].find((k) => k * power >= raw * 0.999);
  const made = [];
  for (let k = Math.ceil(low / step); k * step <= high; k++) made.push(+(k * step).toPrecision(12));
  return made;
};
