// The sky: coverage, known sources and candidates, to be moved and zoomed. x is RA minus that of the middle, rising to the left.
const drawSky = (sky) => {
  const box = document.getElementById("sky"), canvas = document.getElementById("sky-canvas"), tip = document.getElementById("sky-tip");
  const pen = canvas.getContext("2d");
  const LEFT = 52, BOTTOM = 34, TOP = 6, RIGHT = 8;
  const [x0, x1, dec0, dec1] = sky.words.box;
  const stretch = Math.max(Math.cos(((dec0 + dec1) / 2) * Math.PI / 180), 0.1);
  const image = new Image();
  let view = { x: (x0 + x1) / 2, dec: (dec0 + dec1) / 2, zoom: 1 };
  let width = 0, height = 0, unit = 1, waiting = false;

  const css = (name) => getComputedStyle(document.documentElement).getPropertyValue(name).trim();
  const toScreen = (x, dec) => [LEFT + width / 2 - (x - view.x) * stretch * unit, TOP + height / 2 - (dec - view.dec) * unit];
  const toSky = (px, py) => [view.x - (px - LEFT - width / 2) / (stretch * unit), view.dec - (py - TOP - height / 2) / unit];
  const limit = () => {
    view.zoom = Math.min(Math.max(view.zoom, 1), 4000);
    const fit = Math.min(width / ((x1 - x0) * stretch), height / (dec1 - dec0));
    unit = fit * view.zoom;
    const halfX = Math.max((x1 - x0) / 2 - width / (2 * unit * stretch), 0), halfDec = Math.max((dec1 - dec0) / 2 - height / (2 * unit), 0);
    view.x = Math.min(Math.max(view.x, (x0 + x1) / 2 - halfX), (x0 + x1) / 2 + halfX);
    view.dec = Math.min(Math.max(view.dec, (dec0 + dec1) / 2 - halfDec), (dec0 + dec1) / 2 + halfDec);
    canvas.style.touchAction = view.zoom > 1 ? "none" : "pan-y";
  };
  const MARKS = {
    "*": (r) => { for (let k = 0; k < 10; k++) { const a = Math.PI * (k / 5 - 0.5), q = k % 2 ? r * 0.75 : r * 1.7; pen.lineTo(q * Math.cos(a), q * Math.sin(a)); } },
    "^": (r) => { pen.moveTo(0, -r * 1.2); pen.lineTo(r * 1.1, r * 0.9); pen.lineTo(-r * 1.1, r * 0.9); },
    s: (r) => pen.rect(-r * 0.9, -r * 0.9, 1.8 * r, 1.8 * r),
    D: (r) => { pen.moveTo(0, -r * 1.2); pen.lineTo(r * 1.2, 0); pen.lineTo(0, r * 1.2); pen.lineTo(-r * 1.2, 0); },
  };
  const mark = (kind, px, py, r, colour) => {
    pen.save();
    pen.translate(px, py);
    pen.beginPath();
    pen.strokeStyle = pen.fillStyle = colour;
    if (kind === "x") {
      pen.lineWidth = 2;
      pen.moveTo(-r, -r); pen.lineTo(r, r); pen.moveTo(-r, r); pen.lineTo(r, -r);
      pen.stroke();
    } else {
      MARKS[kind](r);
      pen.closePath();
      pen.fill();
    }
    pen.restore();
  };
  const grid = () => {
    const [xLow, decLow] = toSky(LEFT + width, TOP + height), [xHigh, decHigh] = toSky(LEFT, TOP);
    pen.font = "12px system-ui, sans-serif";
    pen.fillStyle = css("--ink");
    pen.strokeStyle = css("--line");
    pen.lineWidth = 1;
    pen.beginPath();
    pen.textAlign = "center";
    pen.textBaseline = "top";
    for (const ra of ticks(xLow + sky.words.ra0, xHigh + sky.words.ra0, Math.max(width / 90, 2))) {
      const [px] = toScreen(ra - sky.words.ra0, 0);
      pen.moveTo(px, TOP); pen.lineTo(px, TOP + height);
      pen.fillText(String(+(((ra % 360) + 360) % 360).toFixed(6)), px, TOP + height + 4);
    }
    pen.textAlign = "right";
    pen.textBaseline = "middle";
    for (const dec of ticks(decLow, decHigh, Math.max(height / 60, 2))) {
      const [, py] = toScreen(0, dec);
      pen.moveTo(LEFT, py); pen.lineTo(LEFT + width, py);
      pen.fillText(number(dec, 8), LEFT - 5, py);
    }
    pen.stroke();
    pen.textAlign = "center";
    pen.textBaseline = "bottom";
    pen.fillText("RA [deg]", LEFT + width / 2, TOP + height + BOTTOM);
    pen.save();
    pen.translate(2, TOP + height / 2);
    pen.rotate(-Math.PI / 2);
    pen.textBaseline = "top";
    pen.fillText("Dec [deg]", 0, 0);
    pen.restore();
  };
  const circles = () => {
    pen.strokeStyle = css("--purple");
    pen.lineWidth = 1.6;
    sky.words.circles.forEach((_, k) => {
      pen.setLineDash(k ? [2, 4] : [9, 4, 2, 4]);
      pen.beginPath();
      let last;
      sky[`circle${k}_x`].forEach((x, i) => {
        const place = toScreen(x, sky[`circle${k}_dec`][i]);
        if (Math.abs(x - last) < 5) pen.lineTo(...place); else pen.moveTo(...place);
        last = x;
      });
      pen.stroke();
    });
    pen.setLineDash([]);
  };
  const draw = () => {
    waiting = false;
    const scale = devicePixelRatio || 1;
    width = box.clientWidth - LEFT - RIGHT;
    height = Math.min(Math.max(width * (dec1 - dec0) / ((x1 - x0) * stretch), 220), 560);
    canvas.style.height = `${height + TOP + BOTTOM}px`;
    canvas.width = Math.round(box.clientWidth * scale);
    canvas.height = Math.round((height + TOP + BOTTOM) * scale);
    pen.setTransform(scale, 0, 0, scale, 0, 0);
    limit();
    grid();
    pen.save();
    pen.beginPath();
    pen.rect(LEFT, TOP, width, height);
    pen.clip();
    pen.imageSmoothingEnabled = false;
    const [left, top] = toScreen(x1, dec1), [right, bottom] = toScreen(x0, dec0);
    pen.drawImage(image, left, top, right - left, bottom - top);
    circles();
    pen.fillStyle = css("--muted");
    const grow = Math.min(view.zoom ** 0.4, 3);
    for (let k = 0; k < sky.flux.length; k++) {
      const [px, py] = toScreen(sky.known_x[k], sky.known_dec[k]);
      const r = grow * (1 + 0.55 * Math.log10(Math.min(Math.max(sky.flux[k] || 1, 1), 1e4)));
      pen.beginPath();
      pen.arc(px, py, r, 0, 2 * Math.PI);
      pen.fill();
    }
    for (let k = sky.found_x.length - 1; k >= 0; k--) {
      const [colour, kind] = sky.words.styles[sky.words.classes[k]];
      mark(kind, ...toScreen(sky.found_x[k], sky.found_dec[k]), 6, css(colour));
    }
    pen.restore();
    pen.strokeStyle = css("--muted");
    pen.strokeRect(LEFT, TOP, width, height);
  };
  const redraw = () => { if (!waiting) { waiting = true; setTimeout(draw, 10); } };
  const zoomAt = (px, py, factor) => {
    const [x, dec] = toSky(px, py);
    view.zoom = Math.min(Math.max(view.zoom * factor, 1), 4000);
    limit();
    const [newX, newDec] = toSky(px, py);
    view.x += x - newX;
    view.dec += dec - newDec;
    redraw();
  };
  const middle = () => [LEFT + width / 2, TOP + height / 2];

  // The nearest object to a place on the screen: candidates before sources.
  const nearest = (px, py) => {
    let best = null;
    const look = (xs, decs, reach, make) => {
      for (let k = 0; k < xs.length; k++) {
        const [qx, qy] = toScreen(xs[k], decs[k]), d = Math.hypot(qx - px, qy - py);
        if (d < reach && (!best || d < best.d)) best = { d, ...make(k) };
      }
    };
    look(sky.found_x, sky.found_dec, 10, (k) => ({ text: `${sky.words.found[k]}: ${sky.words.classes[k].replace("_", " ")}`, link: sky.words.links[k] }));
    if (!best) look(sky.known_x, sky.known_dec, 8, (k) => ({ text: `${sky.words.names[k]}: ${number(sky.flux[k])} mJy`, name: sky.words.names[k] }));
    return best;
  };
  const place = (event) => { const r = canvas.getBoundingClientRect(); return [event.clientX - r.left, event.clientY - r.top]; };
  const pointers = new Map();
  let moved = 0;
  canvas.addEventListener("pointerdown", (event) => { pointers.set(event.pointerId, place(event)); moved = 0; if (event.pointerType === "mouse" || view.zoom > 1) canvas.setPointerCapture(event.pointerId); });
  const release = (event) => pointers.delete(event.pointerId);
  canvas.addEventListener("pointerup", release);
  canvas.addEventListener("pointercancel", release);
  canvas.addEventListener("pointerleave", (event) => { release(event); tip.hidden = true; });
  canvas.addEventListener("pointermove", (event) => {
    const here = place(event), before = pointers.get(event.pointerId);
    if (!before) {
      const found = nearest(...here);
      tip.hidden = !found;
      canvas.style.cursor = found ? "pointer" : "grab";
      if (found) { tip.textContent = found.text; tip.style.left = `${Math.min(here[0] + 12, width - 120)}px`; tip.style.top = `${here[1] + 12}px`; }
      return;
    }
    moved += Math.hypot(here[0] - before[0], here[1] - before[1]);
    if (pointers.size === 2) {
      const other = [...pointers].find(([id]) => id !== event.pointerId)[1];
      const spread = (p) => Math.max(Math.hypot(p[0] - other[0], p[1] - other[1]), 1);
      zoomAt((here[0] + other[0]) / 2, (here[1] + other[1]) / 2, spread(here) / spread(before));
    } else if (view.zoom > 1) {
      view.x += (here[0] - before[0]) / (stretch * unit);
      view.dec += (here[1] - before[1]) / unit;
    }
    pointers.set(event.pointerId, here);
    redraw();
  });
  canvas.addEventListener("click", (event) => {
    if (moved > 5) return;
    const found = nearest(...place(event));
    if (found && found.link) location.hash = found.link;
    else if (found) document.dispatchEvent(new CustomEvent("show-source", { detail: found.name }));
  });
  canvas.addEventListener("dblclick", (event) => { event.preventDefault(); zoomAt(...place(event), 2.5); });
  canvas.addEventListener("wheel", (event) => {
    if (document.activeElement !== canvas && !event.ctrlKey) return;
    event.preventDefault();
    zoomAt(...place(event), Math.exp(-event.deltaY / 400));
  }, { passive: false });
  const KEYS = { "+": 1.6, "=": 1.6, "-": 1 / 1.6 };
  const ARROWS = { ArrowLeft: [1, 0], ArrowRight: [-1, 0], ArrowUp: [0, 1], ArrowDown: [0, -1] };
  canvas.addEventListener("keydown", (event) => {
    if (KEYS[event.key]) zoomAt(...middle(), KEYS[event.key]);
    else if (ARROWS[event.key] && view.zoom > 1) {
      view.x += ARROWS[event.key][0] * width / (6 * unit * stretch);
      view.dec += ARROWS[event.key][1] * height / (6 * unit);
      redraw();
    } else return;
    event.preventDefault();
  });
  document.getElementById("sky-in").addEventListener("click", () => zoomAt(...middle(), 1.6));
  document.getElementById("sky-out").addEventListener("click", () => zoomAt(...middle(), 1 / 1.6));
  document.getElementById("sky-all").addEventListener("click", () => { view.zoom = 1; redraw(); });

  const legend = document.getElementById("sky-legend");
  const SIGNS = { "*": "★", "^": "▲", s: "■", D: "◆", x: "✕" };
  const say = (sign, colour, text) => {
    const part = document.createElement("span"), symbol = document.createElement("i");
    symbol.textContent = sign;
    symbol.style.color = `var(${colour})`;
    part.append(symbol, ` ${text}`);
    legend.append(part);
  };
  for (const [name, [colour, kind]] of Object.entries(sky.words.styles)) {
    const n = sky.words.classes.filter((one) => one === name).length;
    if (n) say(SIGNS[kind], colour, `${name.replace("_", " ")}: ${n}`);
  }
  say("●", "--muted", `${sky.flux.length} known source${sky.flux.length === 1 ? "" : "s"}`);
  say("■", "--sky", sky.words.most === 1 ? "covered by 1 map" : `covered by 1 (pale) to ${sky.words.most} maps`);
  const inBox = (k) => sky[`circle${k}_x`].some((x, i) => x > x0 && x < x1 && sky[`circle${k}_dec`][i] > dec0 && sky[`circle${k}_dec`][i] < dec1);
  sky.words.circles.forEach((name, k) => { if (inBox(k)) say(k ? "┈" : "╌", "--purple", name); });

  box.hidden = false;
  image.addEventListener("load", redraw);
  image.src = sky.words.coverage;
  new ResizeObserver(redraw).observe(box);
  matchMedia("(prefers-color-scheme: dark)").addEventListener("change", redraw);
};
