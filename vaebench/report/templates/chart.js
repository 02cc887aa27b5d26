// A scatter plot in SVG: keyboard-accessible points, labels that avoid each other, linear and logarithmic axes.

/** About `count` round values between `low` and `high`. */
function linearTicks(low, high, count) {
  const raw = (high - low) / count, power = 10 ** Math.floor(Math.log10(raw));
  const step = power * (raw / power >= Math.sqrt(50) ? 10 : raw / power >= Math.sqrt(10) ? 5 : raw / power >= Math.SQRT2 ? 2 : 1);
  const ticks = [];
  for (let i = Math.ceil(low / step); i * step <= high + 1e-9 * step; i++) ticks.push(Number((i * step).toPrecision(12)));
  return ticks;
}

/** 1, 2, 5 of each decade, or decades alone where these would be many. */
function logTicks(low, high) {
  const steps = high / low > 300 ? [1] : [1, 2, 5], ticks = [];
  for (let e = Math.floor(Math.log10(low)); e <= Math.ceil(Math.log10(high)); e++)
    for (const step of steps) { const t = step * 10 ** e; if (t >= low && t <= high) ticks.push(t); }
  return ticks.length > 1 ? ticks : [low, high];
}

function axis(values, log, size, pad) {
  let low = Math.min(...values), high = Math.max(...values);
  if (log) [low, high] = [Math.log10(low), Math.log10(high)];
  const margin = (high - low || Math.abs(high) * 0.1 || 1) * pad;
  [low, high] = [low - margin, high + margin];
  const place = (v) => (((log ? Math.log10(v) : v) - low) / (high - low)) * size;
  const ticks = log ? logTicks(10 ** low, 10 ** high) : linearTicks(low, high, Math.max(3, Math.round(size / 80)));
  return { place, ticks };
}

/**
 * Draw points into `box`, at the width of the box.
 *
 * points: [{x, y, r, colour (0..7), label, tip, hollow, pick}], largest first where they overlap
 * options: {x: {title, log, format}, y: {title}, diagonal, same (both axes have one range), empty (text without points)}
 */
function scatter(box, points, options) {
  box.replaceChildren();
  if (!points.length) { box.append(element("p", { class: "hint" }, options.empty)); return; }
  const width = Math.max(box.clientWidth, 280), height = Math.min(440, Math.max(280, width * (options.same ? 0.85 : 0.62)));
  const lines = wrapped(options.x.title, Math.floor((width - 66) / 6.4));
  const left = 52, right = 14, top = 12, bottom = 32 + 14 * lines.length, w = width - left - right, h = height - top - bottom;
  const both = points.flatMap((p) => [p.x, p.y]);
  const x = axis(options.same ? both : points.map((p) => p.x), options.x.log, w, options.same ? 0.06 : 0.12);
  const y = axis(options.same ? both : points.map((p) => p.y), false, h, options.same ? 0.06 : 0.15);
  const X = (v) => left + x.place(v), Y = (v) => top + h - y.place(v);
  const svg = element("svg:svg", { viewBox: `0 0 ${width} ${height}`, role: "group", "aria-label": `${options.y.title} against ${options.x.title}` });

  if (options.same) x.ticks = y.ticks;
  for (const t of y.ticks) svg.append(
    element("svg:line", { class: "grid", x1: left, x2: left + w, y1: Y(t), y2: Y(t) }),
    element("svg:text", { x: left - 8, y: Y(t) + 4, "text-anchor": "end" }, String(t)));
  let free = -Infinity; // the right end of the last label, so that labels never overlap
  for (const t of x.ticks) {
    const text = (options.x.format ?? String)(Number(t.toPrecision(6)));
    svg.append(element("svg:line", { class: "grid", x1: X(t), x2: X(t), y1: top, y2: top + h }));
    if (X(t) - text.length * 3.6 < free) continue;
    free = X(t) + text.length * 3.6 + 6;
    svg.append(element("svg:text", { x: X(t), y: top + h + 18, "text-anchor": "middle" }, text));
  }
  svg.append(element("svg:line", { class: "axis", x1: left, x2: left + w, y1: top + h, y2: top + h }));
  if (options.diagonal) {
    const low = Math.min(...both), high = Math.max(...both);
    svg.append(element("svg:line", { class: "diagonal", x1: X(low), y1: Y(low), x2: X(high), y2: Y(high) }));
  }
  lines.forEach((line, i) =>
    svg.append(element("svg:text", { x: left + w / 2, y: top + h + 36 + 14 * i, "text-anchor": "middle" }, line)));
  svg.append(element("svg:text", { x: -(top + h / 2), y: 13, transform: "rotate(-90)", "text-anchor": "middle" }, options.y.title));

  for (const p of [...points].sort((a, b) => b.r - a.r)) {
    const colour = `var(--c${p.colour})`;
    const dot = element("svg:circle", {
      class: p.hollow ? "dot hollow" : "dot", cx: X(p.x), cy: Y(p.y), r: p.r, fill: p.hollow ? null : colour, stroke: colour,
      tabindex: 0, role: "button", "aria-label": p.tip.replaceAll("\n", ", "),
    });
    dot.addEventListener("click", p.pick);
    dot.addEventListener("keydown", (e) => { if (e.key === "Enter" || e.key === " ") { e.preventDefault(); p.pick(); } });
    for (const [on, off] of [["pointerenter", "pointerleave"], ["focus", "blur"]]) {
      dot.addEventListener(on, () => tip.show(p.tip, dot.getBoundingClientRect()));
      dot.addEventListener(off, () => tip.hide());
    }
    svg.append(dot);
  }
  box.append(svg);
  label(svg, points.filter((p) => p.label), X, Y, { left, right: left + w, top, bottom: top + h });
}

function wrapped(text, length) {
  const lines = [""];
  for (const word of text.split(" ")) {
    const last = lines.at(-1);
    if (last && last.length + word.length + 1 > length) lines.push(word);
    else lines[lines.length - 1] = last ? `${last} ${word}` : word;
  }
  return lines;
}

/** Put a name beside each point where it covers no other name; a name without room is left to the tooltip. */
function label(svg, points, X, Y, area) {
  const core = (p) => 0.7 * p.r; // names may touch the edge of a bubble, not cover it
  const placed = points.map((p) => ({ l: X(p.x) - core(p), r: X(p.x) + core(p), t: Y(p.y) - core(p), b: Y(p.y) + core(p) }));
  for (const p of points) {
    const text = element("svg:text", { class: "name" }, p.label);
    svg.append(text);
    const width = text.getComputedTextLength(), cx = X(p.x), cy = Y(p.y), gap = p.r + 5;
    const spots = [[cx + gap, cy + 4], [cx - gap - width, cy + 4], [cx - width / 2, cy - gap], [cx - width / 2, cy + gap + 9],
      [cx + gap * 0.8, cy - gap * 0.8], [cx + gap * 0.8, cy + gap * 0.8 + 9], [cx - gap * 0.8 - width, cy - gap * 0.8], [cx - gap * 0.8 - width, cy + gap * 0.8 + 9]];
    const spot = spots.find(([l, base]) => {
      const box = { l, r: l + width, t: base - 11, b: base + 3 };
      const inside = box.l >= area.left && box.r <= area.right && box.t >= area.top && box.b <= area.bottom;
      return inside && placed.every((o) => box.l > o.r || box.r < o.l || box.t > o.b || box.b < o.t);
    });
    if (!spot) { text.remove(); continue; }
    text.setAttribute("x", spot[0]);
    text.setAttribute("y", spot[1]);
    placed.push({ l: spot[0], r: spot[0] + width, t: spot[1] - 11, b: spot[1] + 3 });
  }
}

/** Draw now, and again whenever the width of `box` changes. */
function redrawn(box, draw) {
  let width = 0;
  new ResizeObserver(() => { if (box.clientWidth !== width) { width = box.clientWidth; draw(); } }).observe(box);
}
