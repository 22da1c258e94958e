// Time and memory of the jobs; they differ from run to run and are therefore kept apart from the rest of the page.
const drawResources = (jobs) => {
  if (!jobs.length) return;
  document.getElementById("resources").hidden = false;
  const rules = new Map();
  for (const job of jobs) rules.set(job.rule, [...(rules.get(job.rule) || []), job]);
  const row = (rule, mine) => {
    const tr = document.createElement("tr");
    const seconds = mine.map((job) => job.seconds), memory = mine.map((job) => job.memory_mb).filter(Number.isFinite);
    const total = (name) => mine.some((job) => Number.isFinite(job[name])) ? number(mine.reduce((sum, job) => sum + (job[name] || 0), 0)) : "–";
    const cells = [rule, mine.length, total("seconds"), total("cpu_s"), number(Math.max(...seconds)), memory.length ? number(Math.max(...memory)) : "–", total("read_mb"), total("written_mb")];
    tr.append(...cells.map((text, k) => { const td = document.createElement("td"); td.textContent = text; if (!k) td.className = "text"; return td; }));
    return tr;
  };
  document.querySelector("#resource-table tbody").append(...[...rules].map(([rule, mine]) => row(rule, mine)));
  for (const note of document.querySelectorAll(".used")) {
    const mine = jobs.filter((job) => job.map_id === note.dataset.map);
    const memory = Math.max(...mine.map((job) => job.memory_mb).filter(Number.isFinite), 0);
    if (mine.length) note.textContent = `Used ${number(mine.reduce((sum, job) => sum + job.seconds, 0))} s (${mine.map((job) => `${job.rule.replaceAll("_", " ")} ${number(job.seconds)}`).join(", ")}) and at most ${number(memory)} MB.`;
  }
};
