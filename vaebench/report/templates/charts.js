// The two charts of the page: quality against cost, and the scores of single clips of two VAEs.
const UNITS = [["GiB", 2 ** 30], ["MiB", 2 ** 20]];
const ARROWS = { higher: "↑", lower: "↓", neither: "" };
const titled = (metric) => [metric.key, metric.unit && `[${metric.unit}]`, ARROWS[metric.better]].filter(Boolean).join(" ");

/** The setting in words; with its suite or folder where these are needed to tell entries of `all` apart. */
function settingName(entry, all) {
  const suite = all.some((o) => o.suite !== entry.suite) ? `${entry.suite} · ` : "";
  const folder = all.some((o) => o.title === entry.title && o.suite === entry.suite && o.setting !== entry.setting) ? ` (${entry.setting})` : "";
  return suite + entry.title + folder;
}

/** The position of the first entry with the largest `size`. */
function largest(entries, size) {
  const sizes = entries.map(size);
  return sizes.indexOf(Math.max(...sizes));
}

function bytes(value) {
  const [unit, size] = UNITS.find(([, s]) => value >= s) ?? UNITS[1];
  return `${Number((value / size).toPrecision(3))} ${unit}`;
}

(function bubbles() {
  const card = document.getElementById("bubbles"), charts = DATA.bubbles;
  if (!charts.length) { document.getElementById("quality-cost").hidden = true; return; }
  const [setting, xSelect, ySelect, box, legend, summary] = ["setting", "x", "y", "plot", "legend", "summary"].map((n) => card.querySelector(`[data-${n}]`));
  const families = [...new Set(charts.flatMap((c) => c.points.map((p) => p.family)))].sort();
  const off = new Set(families.filter((f) => charts.every((c) => c.points.every((p) => p.family !== f || p.hidden))));
  const explicit = new Set(); // families with hidden VAEs that the reader switched on

  function draw() {
    const chart = charts[Number(setting.value)], key = xSelect.value, metric = chart.metrics.find((m) => m.key === ySelect.value);
    const along = chart.axes.find((a) => a.key === key);
    const shown = chart.points.filter((p) => !off.has(p.family) && (!p.hidden || explicit.has(p.family)) && key in p.x && metric && metric.key in p.y);
    const most = Math.max(...shown.map((p) => p.memory[key] ?? 0));
    summary.textContent = most > 0 ? `Area: peak memory; the largest bubble is ${bytes(most)}.` : "";
    const radius = box.clientWidth < 500 ? 20 : 30; // pixels, the radius of the largest bubble
    const points = shown.map((p) => {
      const memory = p.memory[key], rate = p.x[key];
      const lines = [p.name, `${titled(metric)} ${short(p.y[metric.key])}`, along.kind === "throughput" ? `${short(rate)} frames/s` : `${along.kind === "latent" ? fraction(rate) : short(rate)} ${along.key}`];
      if (memory) lines.push(`peak memory ${bytes(memory)}`);
      return {
        x: rate, y: p.y[metric.key], r: memory ? Math.max(5, radius * Math.sqrt(memory / most)) : 8, colour: p.colour,
        label: p.channels ? `${p.name} (${p.channels} ch)` : p.name, tip: lines.join("\n"), pick: () => showOrigin(p.record, metric.key),
      };
    });
    scatter(box, points, {
      x: { title: along.title, log: true, format: along.kind === "latent" ? fraction : String }, y: { title: metric ? titled(metric) : "" },
      empty: "No VAE with these scores is selected.",
    });
  }

  const fraction = (v) => (v < 1 ? `1/${Number((1 / v).toPrecision(3))}` : String(Number(v.toPrecision(3))));
  function choose() {
    const chart = charts[Number(setting.value)];
    fill(xSelect, chart.axes.map((a) => [a.key, a.title.replace(" (log scale)", "").split(";")[0]]));
    fill(ySelect, chart.metrics.map((m) => [m.key, titled(m)]));
    draw();
  }
  fill(setting, charts.map((c, i) => [i, settingName(c, charts)]), largest(charts, (c) => c.points.length));
  const colours = new Map(charts.flatMap((c) => c.points.map((p) => [p.family, p.colour])));
  legend.append(...families.map((family) => {
    const button = element("button", { type: "button", class: "chip", "aria-pressed": !off.has(family) }, element("i", { style: `background: var(--c${colours.get(family)})` }), family);
    button.addEventListener("click", () => {
      if (off.delete(family)) explicit.add(family); else { off.add(family); explicit.delete(family); }
      button.setAttribute("aria-pressed", String(!off.has(family)));
      draw();
    });
    return button;
  }));
  setting.addEventListener("change", choose);
  for (const select of [xSelect, ySelect]) select.addEventListener("change", draw);
  choose();
  redrawn(box, draw);
})();

(function perClip() {
  const card = document.getElementById("per-clip"), all = DATA.perClip;
  const [setting, metricSelect, a, b, box, summary, body] = ["setting", "metric", "a", "b", "plot", "summary", "rows"].map((n) => card.querySelector(`[data-${n}]`));
  if (!all.length) {
    card.replaceChildren(element("p", { class: "hint" }, "No record has scores of single clips."));
    return;
  }

  function draw() {
    const entry = all[Number(setting.value)], metric = entry.metrics.find((m) => m.key === metricSelect.value);
    const [first, second] = [a, b].map((select) => entry.vaes[Number(select.value)]);
    const playable = new Set(entry.suite === "reconstruction" ? DATA.kept.filter((k) => k.setting === entry.setting).map((k) => k.clip) : []);
    const folder = `${entry.clips[0].split("/")[0]}/`; // left out of the list if all clips are in it
    const brief = entry.clips.every((c) => c.startsWith(folder)) ? (c) => c.slice(folder.length) : (c) => c;
    const signed = (v) => `${v > 0 ? "+" : ""}${short(v)}`;
    const points = entry.clips.flatMap((clip, i) => {
      const [x, y] = [first, second].map((vae) => vae.scores[metric.key][i]);
      if (x === null || y === null) return [];
      const difference = `difference ${signed(y - x)} ${metric.unit}`.trim();
      const kept = playable.has(clip);
      return [{
        x, y, r: 6, colour: 0, hollow: !kept, difference: y - x, clip,
        tip: [clip, `${first.name}: ${short(x)}`, `${second.name}: ${short(y)}`, difference, kept ? "Select to open the clip" : "Not saved: run with keep_video=N"].join("\n"),
        pick: () => (kept ? openClip(entry.setting, clip, [first.record, second.record]) : showOrigin(second.record, metric.key)),
      }];
    });
    scatter(box, points, {
      x: { title: `${first.name}, ${titled(metric)}` }, y: { title: `${second.name}, ${titled(metric)}` }, diagonal: true, same: true,
      empty: "These VAEs have no clip in common.",
    });
    const sign = { higher: 1, lower: -1, neither: 0 }[metric.better]; // of a difference that is an improvement
    card.querySelector("[data-head-a]").textContent = first.name;
    card.querySelector("[data-head-b]").textContent = second.name;
    body.replaceChildren(...[...points].sort((p, q) => Math.abs(q.difference) - Math.abs(p.difference)).map((p) => element("tr", {},
      element("th", { scope: "row" }, p.hollow ? element("span", { title: p.clip }, brief(p.clip)) : element("button", { type: "button", title: `Play ${p.clip}`, onclick: p.pick }, brief(p.clip))),
      element("td", {}, element("span", {}, short(p.x))), element("td", {}, element("span", {}, short(p.y))),
      element("td", { class: p.difference * sign > 0 ? "more" : p.difference * sign < 0 ? "less" : null }, element("span", {}, signed(p.difference))))));
    const better = points.filter((p) => p.difference * sign > 0).length;
    const won = metric.better === "neither" ? "" : `${second.name} is better than ${first.name} on ${better} of ${points.length} clips. `;
    summary.textContent = `${won}Filled dots: clips that can be played.`;
  }

  function choose() {
    const entry = all[Number(setting.value)];
    fill(metricSelect, entry.metrics.map((m) => [m.key, titled(m)]));
    const names = entry.vaes.map((vae, i) => [i, vae.name]);
    fill(a, names, "0");
    fill(b, names, String(Math.min(1, names.length - 1)));
    draw();
  }
  fill(setting, all.map((entry, i) => [i, settingName(entry, all)]), largest(all, (entry) => (entry.suite === all[0].suite ? entry.vaes.length : 0)));
  setting.addEventListener("change", choose);
  for (const select of [metricSelect, a, b]) select.addEventListener("change", draw);
  choose();
  redrawn(box, draw);
})();
