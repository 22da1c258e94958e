"use strict";
(() => {
  // A link to a candidate opens the folded part it stands in.
  const unfold = () => {
    const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
    if (!target) return;
    for (let part = target.closest("details"); part; part = part.parentElement.closest("details")) part.open = true;
    target.scrollIntoView();
  };
  addEventListener("hashchange", unfold);
  unfold();

  // The table of sources: all rows stay numbers, only those on show become elements.
  const data = JSON.parse(document.getElementById("source-data").textContent);
  const table = document.getElementById("sources");
  const search = document.getElementById("source-search");
  const count = document.getElementById("source-count");
  const more = document.getElementById("source-more");
  const STEP = 100;
  const names = data.rows.map((row) => String(row[0]).toLowerCase());
  let order = data.rows.map((_, k) => k);
  let sorted = { column: data.head.findIndex((head) => head.name === "max SNR"), down: true };
  let shown = STEP;

  const collator = new Intl.Collator("en", { numeric: true });
  const compare = (a, b) => {
    const x = data.rows[a][sorted.column], y = data.rows[b][sorted.column];
    if (x === null || y === null) return (x === null) - (y === null) || a - b;
    const way = typeof x === "string" ? collator.compare(x, y) : x - y;
    return (sorted.down ? -way : way) || a - b;
  };
  const words = (value, decimals) => {
    if (value === null) return "–";
    if (typeof value === "string" || value === 0) return String(value);
    return decimals === null ? value.toPrecision(2) : value.toFixed(decimals).replace("-", "−");
  };
  const cell = (value, k, row) => {
    const td = document.createElement("td");
    if (k === 0) td.className = "text";
    if (k === 0 && data.links[row]) {
      const link = document.createElement("a");
      link.href = "#" + data.links[row];
      link.textContent = value;
      td.append(link);
    } else {
      td.textContent = words(value, data.head[k].decimals);
    }
    return td;
  };
  const draw = () => {
    const wanted = search.value.toLowerCase().split(/\s+/).filter(Boolean);
    const found = order.filter((k) => wanted.every((word) => names[k].includes(word)));
    const rows = found.slice(0, shown).map((k) => {
      const tr = document.createElement("tr");
      tr.append(...data.rows[k].map((value, column) => cell(value, column, k)));
      return tr;
    });
    table.tBodies[0].replaceChildren(...rows);
    count.textContent = `${found.length} of ${data.rows.length} sources, ${rows.length} on show`;
    more.hidden = found.length <= shown;
  };
  const heads = data.head.map((head, column) => {
    const th = document.createElement("th");
    const button = document.createElement("button");
    if (column === 0) th.className = "text";
    button.title = head.about;
    button.addEventListener("click", () => {
      const down = sorted.column === column ? !sorted.down : column > 2;
      sorted = { column, down };
      sort();
    });
    th.append(button);
    return th;
  });
  const sort = () => {
    heads.forEach((th, column) => {
      const mark = column !== sorted.column ? "" : sorted.down ? " ▾" : " ▴";
      th.firstChild.textContent = data.head[column].name + mark;
      th.ariaSort = mark ? (sorted.down ? "descending" : "ascending") : "none";
    });
    order.sort(compare);
    shown = STEP;
    draw();
  };
  table.tHead.rows[0].append(...heads);
  search.addEventListener("input", () => { shown = STEP; draw(); });
  more.addEventListener("click", () => { shown += 5 * STEP; draw(); });
  sort();
})();
