// Light curves drawn where they are asked for, as SVG: `curve` is a list of {time, flux, err, limit, map, band}.
const SVG = "http://www.w3.org/2000/svg";
const shape = (name, attributes, text) => {
  const element = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) element.setAttribute(key, value);
  if (text !== undefined) element.textContent = text;
  return element;
};

const markPath = (kind, x, y, r) => ({
  o: `M${x - r} ${y}a${r} ${r} 0 1 0 ${2 * r} 0a${r} ${r} 0 1 0 ${-2 * r} 0`,
  s: `M${x - r} ${y - r}h${2 * r}v${2 * r}h${-2 * r}z`,
  "^": `M${x} ${y - 1.2 * r}l${1.2 * r} ${2.2 * r}h${-2.4 * r}z`,
  v: `M${x} ${y + 1.2 * r}l${1.2 * r} ${-2.2 * r}h${-2.4 * r}z`,
  D: `M${x} ${y - 1.3 * r}l${1.3 * r} ${1.3 * r}l${-1.3 * r} ${1.3 * r}l${-1.3 * r} ${-1.3 * r}z`,
  P: `M${x - r / 2.5} ${y - r}h${r / 1.25}v${0.6 * r}h${0.6 * r}v${r / 1.25}h${-0.6 * r}v${0.6 * r}h${-r / 1.25}v${-0.6 * r}h${-0.6 * r}v${-r / 1.25}h${0.6 * r}z`,
}[kind] || "");

const sparkline = (curve, styles) => {
  const W = 96, H = 22, svg = shape("svg", { viewBox: `0 0 ${W} ${H}`, class: "spark", "aria-hidden": "true" });
  if (!curve.length) return svg;
  const times = curve.map((p) => p.time), fluxes = curve.map((p) => p.flux);
  const t0 = Math.min(...times), t1 = Math.max(...times), f0 = Math.min(...fluxes, 0), f1 = Math.max(...fluxes, 1e-9);
  const at = (p) => [3 + (W - 6) * (t1 > t0 ? (p.time - t0) / (t1 - t0) : 0.5), H - 3 - (H - 6) * (p.flux - f0) / (f1 - f0)];
  for (const [band, [colour]] of Object.entries(styles)) {
    const points = curve.filter((p) => p.band === band).map(at);
    if (points.length > 1) svg.append(shape("polyline", { points: points.map((p) => p.map((v) => v.toFixed(1)).join()).join(" "), fill: "none", stroke: `var(${colour})`, "stroke-width": 1 }));
    if (points.length) svg.append(shape("path", { d: points.map(([x, y]) => `M${x.toFixed(1)} ${y.toFixed(1)}h0`).join(""), stroke: `var(${colour})`, "stroke-width": 3, "stroke-linecap": "round" }));
  }
  return svg;
};

// Days, hours or minutes of UTC between two unix times.
const dateTicks = (low, high, about) => {
  const STEPS = [60, 300, 900, 3600, 3 * 3600, 6 * 3600, 12 * 3600, 86400, 2 * 86400, 5 * 86400, 10 * 86400, 30 * 86400, 91 * 86400, 365 * 86400];
  const step = STEPS.find((s) => s >= (high - low) / about) || STEPS[STEPS.length - 1];
  const made = [];
  for (let t = Math.ceil(low / step) * step; t <= high; t += step) {
    const iso = new Date(t * 1000).toISOString();
    made.push([t, step >= 86400 ? iso.slice(0, 10) : iso.slice(5, 16).replace("T", " ")]);
  }
  return made;
};

const lightCurve = (curve, styles, steady) => {
  const W = 640, H = 260, L = 62, R = 12, T = 24, B = 40;
  const svg = shape("svg", { viewBox: `0 0 ${W} ${H}`, class: "curve", role: "img", "aria-label": "light curve" });
  const top = (p) => (Number.isFinite(p.limit) ? p.limit : p.flux + p.err), low = (p) => (Number.isFinite(p.limit) ? p.limit : p.flux - p.err);
  let t0 = Math.min(...curve.map((p) => p.time)), t1 = Math.max(...curve.map((p) => p.time));
  const pad = Math.max(0.04 * (t1 - t0), 1800);
  t0 -= pad; t1 += pad;
  const lines = Object.values(steady);
  let f0 = Math.min(0, ...curve.map(low), ...lines), f1 = Math.max(...curve.map(top), ...lines);
  const more = 0.06 * (f1 - f0) || 1;
  f0 -= more; f1 += more;
  const X = (t) => L + (W - L - R) * (t - t0) / (t1 - t0), Y = (f) => H - B - (H - T - B) * (f - f0) / (f1 - f0);
  const rule = (x1, y1, x2, y2, colour, dash = "") => svg.append(shape("line", { x1, y1, x2, y2, stroke: `var(${colour})`, "stroke-width": 1, "stroke-dasharray": dash }));
  for (const f of ticks(f0, f1, 5)) { rule(L, Y(f), W - R, Y(f), "--line"); svg.append(shape("text", { x: L - 5, y: Y(f) + 4, "text-anchor": "end" }, number(f))); }
  for (const [t, text] of dateTicks(t0, t1, 5)) { rule(X(t), T, X(t), H - B, "--line"); svg.append(shape("text", { x: X(t), y: H - B + 15, "text-anchor": "middle" }, text)); }
  rule(L, Y(0), W - R, Y(0), "--muted");
  svg.append(shape("text", { x: (L + W - R) / 2, y: H - 5, "text-anchor": "middle" }, "time (UTC)"));
  svg.append(shape("text", { x: -(T + H - B) / 2, y: 13, transform: "rotate(-90)", "text-anchor": "middle" }, "flux [mJy]"));
  let shift = L;
  for (const [band, [colour, kind]] of Object.entries(styles)) {
    const points = curve.filter((p) => p.band === band);
    if (!points.length) continue;
    if (Number.isFinite(steady[band])) rule(L, Y(steady[band]), W - R, Y(steady[band]), colour, "5 4");
    for (const p of points) {
      const limit = Number.isFinite(p.limit), group = shape("g", { stroke: `var(${colour})`, fill: limit ? "none" : `var(${colour})` });
      if (!limit) group.append(shape("line", { x1: X(p.time), x2: X(p.time), y1: Y(p.flux - p.err), y2: Y(p.flux + p.err) }));
      group.append(shape("path", { d: markPath(limit ? "v" : kind, X(p.time), Y(limit ? p.limit : p.flux), 4) }));
      group.append(shape("title", {}, `${p.map}: ${number(p.flux, 4)} ± ${number(p.err, 2)} mJy${limit ? `, below ${number(p.limit)} mJy (95 %)` : ""}`));
      svg.append(group);
    }
    svg.append(shape("path", { d: markPath(kind, shift + 5, 12, 4), fill: `var(${colour})` }), shape("text", { x: shift + 14, y: 16 }, band));
    shift += 60;
  }
  if (curve.some((p) => Number.isFinite(p.limit))) svg.append(shape("path", { d: markPath("v", shift + 5, 12, 4), fill: "none", stroke: "var(--muted)" }), shape("text", { x: shift + 14, y: 16 }, "95 % limit"));
  return svg;
};
