"use strict";
/* The page to browse particles. A particle is identified by its place in the lists of `data`; `order` lists those that are shown, sorted.
   Only the tiles in and near the window are in the document. */
(() => {
  const data = JSON.parse(document.getElementById("particles").textContent);
  const n = data.rows.length;
  const sheets = [...document.querySelectorAll("#sheets img")];
  const byId = (id) => document.getElementById(id);
  const grid = byId("grid");
  const stored = `cryolike-dask browse ${data.id}`;
  const columnsOf = { row: data.rows, file: data.file.map((file) => data.files[file]), defocus: data.defocus, power: data.power,
    score: data.score };
  const scale = { defocus: 10000, power: 1, score: 1 }; // one unit of a filter, in units of `data`
  const CAPTION = 4 * 14 + 18; // pixels below an image, with its margins
  const FRAME = 12; // pixels beside an image

  const out = new Uint8Array(n); // 1: left out
  const tiles = new Map(); // place in the lists -> element in the document
  const undone = []; // for each change, the values before it: [[particle, value], ...]
  let order = [];
  let current = 0; // place in `order` of the tile that keys act on
  let anchor = null; // place in `order` of the tile that was changed last
  let layout = { columns: 1, width: 1, height: 1 };

  const number = (value) => value.toLocaleString("en");

  // Filtering and sorting.

  function bound(id, otherwise) {
    const text = byId(id).value.trim();
    return text === "" ? otherwise : Number(text);
  }

  function isShown(filters, file, show) {
    const isExact = data.files.includes(file);
    return (i) => {
      const name = columnsOf.file[i];
      if (file && !(isExact ? name === file : name.includes(file))) return false;
      if (show !== "all" && (show === "out") !== (out[i] === 1)) return false;
      return filters.every(({ values, from, to }) => values[i] !== null && values[i] >= from && values[i] <= to);
    };
  }

  function refresh() {
    const filters = [];
    for (const name of Object.keys(scale)) {
      const from = bound(`${name}-from`, -Infinity) * scale[name];
      const to = bound(`${name}-to`, Infinity) * scale[name];
      if (from > -Infinity || to < Infinity) filters.push({ values: columnsOf[name], from, to });
    }
    const values = columnsOf[byId("sort").value];
    const direction = Number(byId("direction").value);
    order = data.rows.map((_, i) => i).filter(isShown(filters, byId("file").value.trim(), byId("show").value));
    // Particles without a value come last; equal ones are in the order of their rows.
    order.sort((a, b) => {
      if (values[a] === null || values[b] === null) return (values[a] === null) - (values[b] === null) || data.rows[a] - data.rows[b];
      if (values[a] !== values[b]) return values[a] < values[b] ? -direction : direction;
      return data.rows[a] - data.rows[b];
    });
    byId("none").hidden = order.length > 0;
    current = 0;
    anchor = null;
    for (const tile of tiles.values()) tile.remove();
    tiles.clear();
    arrange();
    count();
  }

  // Tiles.

  function arrange() {
    const width = Number(byId("size").value);
    const columns = Math.max(1, Math.floor(grid.clientWidth / width));
    const wide = Math.min(Math.floor(grid.clientWidth / columns), width + 24);
    layout = { columns, width: wide, height: Math.round((wide - FRAME) * data.tile[0] / data.tile[1]) + CAPTION };
    grid.style.height = `${Math.ceil(order.length / columns) * layout.height}px`;
    draw();
  }

  function draw() {
    const top = grid.getBoundingClientRect().top;
    const first = Math.max(0, Math.floor(-top / layout.height) - 1) * layout.columns;
    const last = Math.min(order.length, (Math.ceil((window.innerHeight - top) / layout.height) + 1) * layout.columns);
    const wanted = new Set(order.slice(first, Math.max(first, last)));
    for (const [i, tile] of tiles) {
      if (!wanted.has(i)) {
        tile.remove();
        tiles.delete(i);
      }
    }
    for (let place = first; place < last; place++) {
      const i = order[place];
      if (!tiles.has(i)) {
        tiles.set(i, makeTile(i));
        grid.append(tiles.get(i));
      }
      show(i, place);
    }
    if (tiles.has(order[current])) grid.setAttribute("aria-activedescendant", `p${order[current]}`);
    else grid.removeAttribute("aria-activedescendant");
  }

  function show(i, place) {
    const tile = tiles.get(i);
    tile.style.left = `${(place % layout.columns) * layout.width}px`;
    tile.style.top = `${Math.floor(place / layout.columns) * layout.height}px`;
    tile.style.width = `${layout.width}px`;
    tile.dataset.place = place;
    tile.setAttribute("aria-posinset", place + 1);
    tile.setAttribute("aria-setsize", order.length);
    tile.setAttribute("aria-selected", out[i] === 0);
    tile.classList.toggle("current", place === current);
  }

  function makeTile(i) {
    const tile = document.createElement("div");
    tile.id = `p${i}`;
    tile.className = data.score[i] >= data.conspicuous ? "tile conspicuous" : "tile";
    tile.setAttribute("role", "option");
    const canvas = document.createElement("canvas");
    [canvas.height, canvas.width] = data.tile;
    tile.append(canvas);
    const defocus = data.defocus[i] === null ? "no defocus" : `${(data.defocus[i] / 10000).toFixed(2)} µm`;
    line(tile, "row", `row ${data.rows[i]}`, data.score[i].toFixed(1));
    line(tile, "values", defocus, `${data.power[i].toPrecision(3)}%`);
    line(tile, "image", data.image[i]);
    line(tile, "image", columnsOf.file[i]);
    tile.title = `Row ${data.rows[i]}\n${data.image[i]} of ${columnsOf.file[i]}\nDefocus ${defocus}\nPower ${data.power[i]}%\n`
      + `Outlier score ${data.score[i]}`;
    drawImage(canvas, i);
    return tile;
  }

  function line(tile, name, ...texts) {
    const part = document.createElement("div");
    part.className = name;
    for (const text of texts) {
      const span = document.createElement("span");
      span.textContent = text;
      part.append(span);
    }
    tile.append(part);
  }

  async function drawImage(canvas, i) {
    const sheet = sheets[Math.floor(i / data.per_sheet)];
    const place = i % data.per_sheet;
    await sheet.decode();
    const [rows, columns] = data.tile;
    const x = (place % data.columns) * data.cell[1];
    const y = Math.floor(place / data.columns) * data.cell[0];
    canvas.getContext("2d").drawImage(sheet, x, y, columns, rows, 0, 0, columns, rows);
  }

  // Leaving out and taking back.

  function change(particles, valueOf) {
    const before = particles.filter((i) => out[i] !== valueOf(i)).map((i) => [i, out[i]]);
    if (before.length === 0) return;
    undone.push(before);
    for (const [i] of before) out[i] = 1 - out[i];
    changed();
  }

  function undo() {
    const before = undone.pop();
    if (before === undefined) return;
    for (const [i, value] of before) out[i] = value;
    changed();
  }

  function changed() {
    draw();
    count();
    try {
      localStorage.setItem(stored, JSON.stringify(data.rows.map((_, i) => i).filter((i) => out[i])));
    } catch {
      // A browser may refuse to store anything for a file.
    }
  }

  function act(place, withRange) {
    if (place >= order.length) return;
    if (withRange && anchor !== null) {
      const value = out[order[anchor]];
      change(order.slice(Math.min(anchor, place), Math.max(anchor, place) + 1), () => value);
    } else {
      change([order[place]], (i) => 1 - out[i]);
    }
    anchor = place;
    move(place, false);
  }

  function move(place, scrolls = true) {
    current = Math.max(0, Math.min(order.length - 1, place));
    if (scrolls) {
      const top = grid.getBoundingClientRect().top + Math.floor(current / layout.columns) * layout.height;
      const above = byId("bar").offsetHeight;
      if (top < above) window.scrollBy(0, top - above);
      else if (top + layout.height > window.innerHeight) window.scrollBy(0, top + layout.height - window.innerHeight);
    }
    draw();
  }

  function count() {
    const left = out.reduce((sum, value) => sum + value, 0);
    byId("count").textContent = `${number(n - left)} of ${number(n)} kept, ${number(left)} left out, ${number(order.length)} shown`;
    byId("undo").disabled = undone.length === 0;
    byId("save").disabled = keptRows().length === 0;
  }

  // Saving and loading.

  function keptRows() {
    const rows = data.rows.filter((_, i) => out[i] === 0);
    if (byId("unseen")?.checked) {
      for (let k = 0; k < data.unseen.length; k += 2) {
        for (let row = data.unseen[k]; row <= data.unseen[k + 1]; row++) rows.push(row);
      }
    }
    return rows.sort((a, b) => a - b);
  }

  function save() {
    const rows = keptRows();
    if (rows.length === 0) return;
    const heading = `# ${rows.length} particles ${data.about}`.replace(/\s+/g, " ");
    const link = document.createElement("a");
    link.href = URL.createObjectURL(new Blob([`${heading}\n${rows.join("\n")}\n`], { type: "text/plain" }));
    link.download = "kept-rows.txt";
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  }

  async function load(file) {
    const text = await file.text();
    const lines = text.split("\n").map((line) => line.replace(/#.*/, "").trim());
    const wrong = lines.findIndex((line) => !/^\d*$/.test(line));
    const rows = new Set(lines.filter((line) => line !== "").map(Number));
    const onPage = data.rows.filter((row) => rows.has(row)).length;
    let note = `${file.name} has ${number(rows.size)} rows, of which ${number(onPage)} are on this page.`;
    if (wrong >= 0) note = `${file.name}, line ${wrong + 1} is not a row number. Choose a file saved from this page.`;
    else if (onPage === 0) note = `${file.name} has no row of this page. Choose a file saved from this page.`;
    else change(data.rows.map((_, i) => i), (i) => (rows.has(data.rows[i]) ? 0 : 1));
    const heading = /^#.*/.exec(text);
    byId("note").textContent = heading === null ? note : `${note} Its first line: ${heading[0].slice(1).trim()}`;
  }

  // Events.

  const steps = () => ({
    ArrowLeft: current - 1,
    ArrowRight: current + 1,
    ArrowUp: current < layout.columns ? current : current - layout.columns,
    ArrowDown: current + layout.columns >= order.length ? current : current + layout.columns,
    PageUp: current - layout.columns * Math.max(1, Math.floor(window.innerHeight / layout.height) - 1),
    PageDown: current + layout.columns * Math.max(1, Math.floor(window.innerHeight / layout.height) - 1),
    Home: 0,
    End: order.length - 1,
  });

  grid.addEventListener("click", (event) => {
    const tile = event.target.closest(".tile");
    if (tile !== null) act(Number(tile.dataset.place), event.shiftKey);
  });
  grid.addEventListener("keydown", (event) => {
    if (event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key === " ") act(current, event.shiftKey);
    else if (event.key in steps()) move(steps()[event.key]);
    else return;
    event.preventDefault();
  });
  document.addEventListener("keydown", (event) => {
    if (!(event.ctrlKey || event.metaKey) || event.altKey || event.shiftKey) return;
    const isText = event.target instanceof HTMLInputElement;
    if (event.key === "z" && !isText) undo();
    else if (event.key === "s") save();
    else return;
    event.preventDefault();
  });
  byId("controls").addEventListener("input", (event) => (event.target.id === "size" ? arrange() : refresh()));
  byId("controls").addEventListener("reset", () => setTimeout(refresh));
  byId("controls").addEventListener("submit", (event) => event.preventDefault());
  byId("leave").addEventListener("click", () => change(order, () => 1));
  byId("keep").addEventListener("click", () => change(order, () => 0));
  byId("undo").addEventListener("click", undo);
  byId("save").addEventListener("click", save);
  byId("load").addEventListener("click", () => byId("rows").click());
  byId("rows").addEventListener("change", async (event) => {
    await load(event.target.files[0]);
    event.target.value = ""; // or choosing the same file again would be no change
  });
  byId("unseen")?.addEventListener("change", count);
  window.addEventListener("scroll", draw, { passive: true });
  window.addEventListener("resize", arrange);

  // Start.

  for (const file of data.files) {
    const option = document.createElement("option");
    option.value = file;
    byId("files").append(option);
  }
  for (const name of Object.keys(scale)) {
    const values = columnsOf[name].filter((value) => value !== null);
    const round = (value) => String(Number((value / scale[name]).toPrecision(3)));
    byId(`${name}-from`).placeholder = values.length ? round(values.reduce((a, b) => Math.min(a, b))) : "";
    byId(`${name}-to`).placeholder = values.length ? round(values.reduce((a, b) => Math.max(a, b))) : "";
  }
  try {
    for (const i of JSON.parse(localStorage.getItem(stored) ?? "[]")) if (i < n) out[i] = 1;
  } catch {
    // Nothing was stored, or the browser stores nothing for a file.
  }
  refresh();
})();
