// Synchronised players.  One clock moves all panels; every frame is decoded to pixels first, so panels can never drift apart and
// the error is computed from the stored values.  A film is {film: id, crc}: lines of base64, one lossless WebP per frame.
const CRC = Uint32Array.from({ length: 256 }, (_, n) => { for (let k = 0; k < 8; k++) n = n & 1 ? 0xedb88320 ^ (n >>> 1) : n >>> 1; return n; });
const films = new Map(); // id -> promise of {frames: [ImageData], exact}

function decoded({ film, crc }, width, height) {
  if (!films.has(film)) films.set(film, decode(film, crc, width, height));
  return films.get(film);
}

async function decode(id, crc, width, height) {
  const canvas = element("canvas", { width, height }), context = canvas.getContext("2d", { willReadFrequently: true });
  const frames = [];
  let sum = 0xffffffff;
  for (const line of document.getElementById(id).textContent.split("\n")) {
    const bytes = Uint8Array.from(atob(line), (c) => c.charCodeAt(0));
    const image = await createImageBitmap(new Blob([bytes], { type: "image/webp" }), { colorSpaceConversion: "none", premultiplyAlpha: "none" });
    context.drawImage(image, 0, 0);
    image.close();
    const frame = context.getImageData(0, 0, width, height), data = frame.data;
    for (let i = 0; i < data.length; i++) if ((i & 3) !== 3) sum = CRC[(sum ^ data[i]) & 255] ^ (sum >>> 8);
    frames.push(frame);
  }
  return { frames, exact: (sum ^ 0xffffffff) >>> 0 === crc };
}

/** PSNR of one frame in dB, as vaebench.metrics.psnr: the MSE is at least 1/12 of a squared 8-bit level. */
function psnr(a, b) {
  let sum = 0;
  for (let i = 0; i < a.length; i++) if ((i & 3) !== 3) sum += (a[i] - b[i]) ** 2;
  return -10 * Math.log10(Math.max(sum / (a.length * 0.75), 1 / 12) / 255 ** 2);
}

function errorOf(a, b, gain) {
  const out = new ImageData(a.width, a.height);
  for (let i = 0; i < out.data.length; i++) out.data[i] = (i & 3) === 3 ? 255 : gain * Math.abs(a.data[i] - b.data[i]);
  return out;
}

let openClip = () => {}; // (setting, clip, indices of records): show a clip and scroll to it

(function player() {
  const root = document.getElementById("player"), kept = DATA.kept;
  if (!kept.length) return;
  const part = (name) => root.querySelector(`[data-${name}]`);
  const clipSelect = part("clip"), gain = part("gain"), zoomSelect = part("zoom"), stage = part("stage"), slider = part("frame"), play = part("play");
  const views = [...root.querySelectorAll("[name=view]")];
  // x, y: the left upper corner of the visible part, in 0..1 of the picture
  const state = { clip: null, reference: null, panels: [], frame: 0, view: "side", zoom: 1, x: 0, y: 0, wipe: 0.5, playing: false, ticket: 0 };
  const chosen = new Set(kept[0].vaes.slice(0, 3).map((vae) => vae.name)); // VAEs to show, by name: the choice survives a change of clip

  async function load() {
    const ticket = ++state.ticket, clip = kept[Number(clipSelect.value)];
    pause();
    const shown = clip.vaes.filter((vae) => chosen.has(vae.name));
    part("position").textContent = "decoding …";
    const [reference, ...results] = await Promise.all([clip.reference, ...shown].map((film) => decoded(film, clip.width, clip.height)));
    if (ticket !== state.ticket) return; // another clip was chosen meanwhile
    Object.assign(state, { clip, reference, frame: Math.min(state.frame, clip.count - 1) });
    slider.max = clip.count - 1;
    state.panels = [
      panel("reference", null), ...shown.map((vae, i) => panel(vae.name, results[i])),
    ];
    stage.replaceChildren(...state.panels.map((p) => p.node));
    const exact = [reference, ...results].every((r) => r.exact);
    part("exact").className = exact ? "exact" : "lossy";
    part("exact").textContent = exact ? "Lossless: the decoded pixels equal the stored ones." : "Shown lossy: this browser changes the pixels.";
    root.dataset.ready = `${clip.clip} ${exact ? "exact" : "lossy"}`;
    play.disabled = clip.count < 2;
    place();
    draw();
  }

  function chips() {
    const clip = kept[Number(clipSelect.value)];
    if (!clip.vaes.some((vae) => chosen.has(vae.name))) clip.vaes.slice(0, 3).forEach((vae) => chosen.add(vae.name));
    part("vaes").replaceChildren(part("vaes").querySelector("legend"), ...clip.vaes.map((vae) => {
      const box = element("input", { type: "checkbox", checked: chosen.has(vae.name) });
      box.addEventListener("change", () => { if (box.checked) chosen.add(vae.name); else chosen.delete(vae.name); load(); });
      return element("label", { class: "chip" }, box, vae.name);
    }));
  }

  function panel(name, film) {
    const canvas = element("canvas", { width: state.clip.width, height: state.clip.height, role: "img", "aria-label": name });
    const viewport = element("div", { class: "viewport" }, canvas), score = element("span");
    const divider = element("div", { class: "divider", role: "slider", tabindex: 0, "aria-label": `Wipe between reference and ${name}`, "aria-valuemin": 0, "aria-valuemax": 100 });
    const sides = [element("span", { class: "side left" }, "reference"), element("span", { class: "side right" }, name)];
    if (film) viewport.append(divider, ...sides);
    const node = element("figure", { class: "panel" }, viewport, element("figcaption", {}, element("b", {}, name), score));
    divider.addEventListener("keydown", (event) => {
      const step = { ArrowLeft: -0.02, ArrowRight: 0.02, Home: -1, End: 1 }[event.key];
      if (step) { event.preventDefault(); event.stopPropagation(); wipeTo(state.wipe + step); }
    });
    drag(viewport, divider);
    return { node, canvas, viewport, divider, sides, score, film, context: canvas.getContext("2d") };
  }

  function drag(viewport, divider) {
    let moving = "";
    viewport.addEventListener("pointerdown", (event) => {
      moving = state.view === "wipe" && (event.target === divider || state.zoom === 1) ? "wipe" : state.zoom > 1 ? "pan" : "";
      if (!moving) return;
      viewport.setPointerCapture(event.pointerId);
      if (moving === "wipe") follow(event);
    });
    function follow(event) {
      const box = viewport.getBoundingClientRect();
      if (moving === "wipe") wipeTo((event.clientX - box.left) / box.width);
      else panTo(state.x - event.movementX / (box.width * state.zoom), state.y - event.movementY / (box.height * state.zoom));
    }
    viewport.addEventListener("pointermove", (event) => { if (moving) follow(event); });
    for (const end of ["pointerup", "pointercancel"]) viewport.addEventListener(end, () => { moving = ""; });
    viewport.addEventListener("wheel", (event) => {
      if (!event.ctrlKey && state.zoom === 1) return; // the page scrolls; Ctrl and the wheel, or a pinch, zoom
      event.preventDefault();
      const box = viewport.getBoundingClientRect();
      zoomTo(state.zoom * (event.deltaY < 0 ? 2 : 0.5), (event.clientX - box.left) / box.width, (event.clientY - box.top) / box.height);
    }, { passive: false });
  }

  function wipeTo(value) { state.wipe = Math.max(0, Math.min(1, value)); draw(); }
  function panTo(x, y) {
    const most = 1 - 1 / state.zoom;
    state.x = Math.max(0, Math.min(most, x));
    state.y = Math.max(0, Math.min(most, y));
    place();
    if (state.view === "wipe") draw();
  }
  /** Zoom so that the point (u, v) of the viewport, in 0..1, stays where it is. */
  function zoomTo(zoom, u = 0.5, v = 0.5) {
    const next = Math.max(1, Math.min(16, zoom)), before = state.zoom;
    state.zoom = next;
    zoomSelect.value = String(next);
    panTo(state.x + u / before - u / next, state.y + v / before - v / next);
  }
  function place() {
    for (const { canvas, viewport } of state.panels) {
      canvas.style.transform = `scale(${state.zoom}) translate(${-100 * state.x}%, ${-100 * state.y}%)`;
      viewport.classList.toggle("zoomed", state.zoom > 1);
    }
  }

  function draw() {
    const { clip, frame, view, reference } = state;
    if (!clip) return;
    const real = reference.frames[frame];
    for (const p of state.panels) {
      const wipe = view === "wipe" && p.film !== null;
      for (const node of [p.divider, ...p.sides]) node.hidden = !wipe;
      if (!p.film) {
        p.node.hidden = view === "wipe"; // every panel shows the reference then
        p.context.putImageData(real, 0, 0);
        continue;
      }
      const rebuilt = p.film.frames[frame];
      p.score.textContent = `${psnr(real.data, rebuilt.data).toFixed(2)} dB`;
      p.score.title = "PSNR of this frame";
      if (view === "error") p.context.putImageData(errorOf(real, rebuilt, Number(gain.value)), 0, 0);
      else p.context.putImageData(rebuilt, 0, 0);
      if (wipe) {
        const edge = Math.round((state.x + state.wipe / state.zoom) * clip.width); // of the wipe, in pixels of the picture
        if (edge > 0) p.context.putImageData(real, 0, 0, 0, 0, edge, clip.height);
        p.divider.style.left = `${100 * state.wipe}%`;
        p.divider.setAttribute("aria-valuenow", Math.round(100 * state.wipe));
      }
    }
    slider.value = frame;
    const which = clip.source === "video" ? "frame" : "saved frame";
    part("position").textContent = `${which} ${frame + 1} of ${clip.count}`;
    slider.setAttribute("aria-valuetext", part("position").textContent);
    part("gain-label").hidden = view !== "error";
  }

  function show(frame) { state.frame = (frame + state.clip.count) % state.clip.count; draw(); }
  function setView(view) { state.view = view; views.forEach((v) => { v.checked = v.value === view; }); draw(); }

  function face(word, icon) {
    play.setAttribute("aria-label", word);
    part("word").textContent = word;
    part("icon").setAttribute("d", icon);
  }
  function pause() { state.playing = false; face("Play", "M3 1v14l11-7z"); }
  function start() {
    if (!state.clip || state.clip.count < 2) return;
    state.playing = true;
    face("Pause", "M3 1h4v14H3zM9 1h4v14H9z");
    let last = performance.now(), due = 0;
    // pictures without a rate change once a second
    requestAnimationFrame(function tick(now) {
      if (!state.playing) return;
      due += ((now - last) / 1000) * (state.clip.source === "video" ? state.clip.fps || 24 : 1) * Number(part("speed").value);
      last = now;
      if (due >= 1) { show(state.frame + Math.floor(due)); due %= 1; }
      requestAnimationFrame(tick);
    });
  }
  const toggle = () => (state.playing ? pause() : start());
  const step = (by) => { pause(); show(state.frame + by); };

  play.addEventListener("click", toggle);
  part("first").addEventListener("click", () => { pause(); show(0); });
  part("back").addEventListener("click", () => step(-1));
  part("forward").addEventListener("click", () => step(1));
  slider.addEventListener("input", () => { pause(); show(Number(slider.value)); });
  views.forEach((radio) => radio.addEventListener("change", () => setView(radio.value)));
  gain.addEventListener("change", draw);
  zoomSelect.addEventListener("change", () => zoomTo(Number(zoomSelect.value)));
  clipSelect.addEventListener("change", () => { state.frame = 0; chips(); load(); });
  root.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    const field = event.target.closest("input, select"), button = event.target.closest("button");
    if (field || (button && event.key === " ")) return; // these keys belong to the control
    const action = {
      " ": toggle, ArrowLeft: () => step(-1), ArrowRight: () => step(1), "+": () => zoomTo(state.zoom * 2), "=": () => zoomTo(state.zoom * 2),
      "-": () => zoomTo(state.zoom / 2), w: () => setView("wipe"), e: () => setView("error"), s: () => setView("side"),
    }[event.key];
    if (action && state.clip) { event.preventDefault(); action(); }
  });

  openClip = (setting, clip, records) => {
    const at = kept.findIndex((k) => k.setting === setting && k.clip === clip && (!records || k.vaes.some((vae) => records.includes(vae.record))));
    if (at < 0) return;
    clipSelect.value = String(at);
    state.frame = 0;
    if (records) { chosen.clear(); kept[at].vaes.filter((vae) => records.includes(vae.record)).forEach((vae) => chosen.add(vae.name)); }
    chips();
    load();
    root.scrollIntoView({ block: "start" });
    root.focus({ preventScroll: true });
  };

  fill(clipSelect, kept.map((k, i) => [i, `${k.clip} · ${settingName(k, kept)}${k.source === "pictures" ? " (3 frames)" : ""}`]), "0");
  chips();
  // decode only when the player comes near the screen
  new IntersectionObserver((entries, observer) => {
    if (entries.some((e) => e.isIntersecting)) { observer.disconnect(); load(); }
  }, { rootMargin: "600px" }).observe(root);
})();
