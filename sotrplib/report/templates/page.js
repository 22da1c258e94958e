// A link to a candidate opens the folded part it stands in.
const unfold = () => {
  const target = document.getElementById(decodeURIComponent(location.hash.slice(1)));
  if (!target) return;
  for (let part = target.closest("details"); part; part = part.parentElement.closest("details")) part.open = true;
  target.scrollIntoView();
};
addEventListener("hashchange", unfold);
unfold();
drawResources(JSON.parse(document.getElementById("resource-data").textContent));
const ready = Promise.all([
  unpack("sky-pack").then((sky) => sky && drawSky(sky)),
  unpack("source-pack").then((sources) => sources && drawSources(sources)),
]).then(() => { document.documentElement.dataset.ready = "yes"; });
