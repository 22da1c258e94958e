// The table of sources: all rows stay numbers, only those on show become elements.
const drawSources = (data) => {
  const { head, names: shownNames, links, start, maps, bands, styles } = data.words;
  const table = document.getElementById("sources");
  const search = document.getElementById("source-search");
  const count = document.getElementById("source-count");
  const more = document.getElementById("source-more");
  const STEP = 100, NEAR_DEG = 10 / 60;
  const NAME = -1, columns = head.map((_, k) => data[`column${k}`]);
  const names = shownNames.map((name) => name.toLowerCase());
  const order = Uint32Array.from(names, (_, k) => k);
  const ra = columns[0], dec = columns[1];
  let sorted = { column: head.findIndex((one) => one.name === "max SNR"), down: true };
  let shown = STEP, open = -1, found = order;

  const collator = new Intl.Collator("en", { numeric: true });
  let rank = null; // of the names, found once
  const rankNames = () => {
    const byName = Uint32Array.from(order).sort((a, b) => collator.compare(shownNames[a], shownNames[b]) || a - b);
    rank = new Float64Array(byName.length);
    byName.forEach((row, place) => { rank[row] = place; });
    return rank;
  };
  const sortRows = () => {
    const values = sorted.column === NAME ? rank || rankNames() : columns[sorted.column], way = sorted.down ? -1 : 1;
    order.sort((a, b) => {
      const x = values[a], y = values[b];
      if (x !== x || y !== y) return (x !== x) - (y !== y) || a - b;
      return way * (x - y) || a - b;
    });
  };
  const words = (value, decimals) => {
    if (value !== value) return "–";
    const text = decimals === null ? (value === 0 ? "0" : value.toPrecision(2)) : value.toFixed(decimals);
    return text.replace("-", "−");
  };
  const curveOf = (row) => {
    const made = [];
    for (let k = data.first[row]; k < data.first[row + 1]; k++) {
      const map = data.map[k];
      made.push({ time: start + data.time[k], flux: data.flux[k], err: data.flux_err[k], limit: data.limit[k], steady: data.steady[k], map: maps[map], band: bands[map] });
    }
    return made;
  };
  const cell = (content, className) => {
    const td = document.createElement("td");
    if (className) td.className = className;
    td.append(content);
    return td;
  };
  const link = (text, href) => {
    const a = document.createElement("a");
    a.textContent = text;
    a.href = href;
    if (!href.startsWith("#")) a.rel = "noreferrer";
    return a;
  };
  const details = (row) => {
    const td = cell("", "details"), curve = curveOf(row);
    td.colSpan = head.length + 2;
    const steady = {};
    for (const p of curve) if (Number.isFinite(p.steady)) steady[p.band] = p.steady;
    if (curve.length) td.append(lightCurve(curve, styles, steady));
    else td.append("No usable measurement.");
    const place = `${ra[row].toFixed(6)} ${dec[row] < 0 ? "" : "+"}${dec[row].toFixed(6)}`, coded = encodeURIComponent(place);
    const note = document.createElement("p");
    note.className = "note";
    note.append(`${curve.length} measurement${curve.length === 1 ? "" : "s"}; dashed: catalogue flux. `,
      link("SIMBAD", `https://simbad.cds.unistra.fr/simbad/sim-coo?Coord=${coded}&Radius=1&Radius.unit=arcmin`), " ",
      link("NED", `https://ned.ipac.caltech.edu/conesearch?search_type=Near%20Position%20Search&in_csys=Equatorial&in_equinox=J2000&ra=${ra[row]}d&dec=${dec[row]}d&radius=1`), " ",
      link("Gaia", `https://vizier.cds.unistra.fr/viz-bin/VizieR-4?-source=I/355/gaiadr3&-c=${coded}&-c.rm=1`), " ",
      link("ALeRCE", `https://alerce.online/?ra=${ra[row]}&dec=${dec[row]}&radius=60`));
    if (links[row]) note.append(" ", link("figures of the candidate", `#${links[row]}`));
    td.append(note);
    const tr = document.createElement("tr");
    tr.append(td);
    return tr;
  };
  const rowOf = (row) => {
    const tr = document.createElement("tr"), button = document.createElement("button");
    button.type = "button";
    button.className = "plain";
    button.textContent = shownNames[row];
    button.ariaExpanded = String(open === row);
    button.addEventListener("click", () => { open = open === row ? -1 : row; draw(); });
    tr.append(cell(button, "text"), cell(sparkline(curveOf(row), styles), "text"));
    head.forEach((one, k) => tr.append(cell(words(columns[k][row], one.decimals))));
    return open === row ? [tr, details(row)] : [tr];
  };
  const finder = () => {
    const text = search.value.trim().replaceAll("−", "-").toLowerCase(), place = text.match(/^([\d.]+)[\s,]+([+-]?[\d.]+)$/);
    if (place) {
      const [a, d] = [Number(place[1]), Number(place[2])], stretch = Math.cos(d * Math.PI / 180);
      return (k) => Math.hypot(((ra[k] - a + 540) % 360 - 180) * stretch, dec[k] - d) < NEAR_DEG;
    }
    const wanted = text.split(/\s+/).filter(Boolean);
    return (k) => wanted.every((word) => names[k].includes(word));
  };
  const draw = () => {
    found = order.filter(finder());
    table.tBodies[0].replaceChildren(...[...found.subarray(0, shown)].flatMap(rowOf));
    say();
  };
  const drawMore = () => {
    const before = shown;
    shown += 3 * STEP;
    table.tBodies[0].append(...[...found.subarray(before, shown)].flatMap(rowOf));
    say();
  };
  const say = () => {
    count.textContent = `${found.length} of ${names.length} sources, ${Math.min(shown, found.length)} on show`;
    more.hidden = found.length <= shown;
  };
  const heading = (name, about, column) => {
    const th = document.createElement("th"), button = document.createElement("button");
    if (column === NAME) th.className = "text";
    button.type = "button";
    button.title = about;
    button.dataset.name = name;
    button.addEventListener("click", () => {
      sorted = { column, down: sorted.column === column ? !sorted.down : column > 1 };
      sort();
    });
    th.append(button);
    return [column, th];
  };
  const spark = document.createElement("th");
  spark.textContent = "light curve";
  spark.className = "text static";
  const heads = [heading("Source", "name of the source", NAME), ...head.map((one, k) => heading(one.name, one.about, k))];
  const sort = () => {
    for (const [column, th] of heads) {
      const mark = column !== sorted.column ? "" : sorted.down ? " ▾" : " ▴";
      th.firstChild.textContent = th.firstChild.dataset.name + mark;
      th.ariaSort = mark ? (sorted.down ? "descending" : "ascending") : "none";
    }
    sortRows();
    shown = STEP;
    draw();
  };
  const [first, ...rest] = heads.map(([, th]) => th);
  table.tHead.rows[0].append(first, spark, ...rest);
  search.addEventListener("input", () => { shown = STEP; draw(); });
  more.addEventListener("click", drawMore);
  document.addEventListener("show-source", (event) => {
    const row = shownNames.findIndex((name) => name === event.detail);
    search.value = event.detail;
    open = row;
    shown = STEP;
    draw();
    document.getElementById("all-sources").scrollIntoView();
  });
  sort();
};
