// The token view: chips, layer scrubber and token × layer grid of one trace.
// Python sends every text and number (see token_view.py); here is only what moves. User text
// enters the page as escaped chips or through textContent, never through innerHTML.

const SVG = "http://www.w3.org/2000/svg";
const ROW = 18;
const DENSE_ROW = 11;
const GUTTER = 34;
const LABELS = 70;
const LABEL_CHARACTERS = 11;
const PLAY_MS = 700;
const BAND_GAP = 14;

export default function (component) {
  const root = component.parentElement.querySelector(".tv");
  if (!root) return;
  root.view ??= new View(root);
  root.view.update(component);
  return () => root.view.close();
}

class View {
  constructor(root) {
    this.root = root;
    for (const name of ["scrubber", "play", "count", "chips", "detail", "grid", "legend"]) {
      this[name] = root.querySelector(`[data-part=${name}]`);
    }
    this.observer = new ResizeObserver(() => {
      if (this.data && this.root.clientWidth !== this.width) this.drawGrid();
    });
    this.listen();
  }

  listen() {
    this.scrubber.oninput = () => this.showLayer(Number(this.scrubber.value));
    this.scrubber.onchange = () => this.send("layer", this.layer);
    this.play.onclick = () => this.togglePlay();
    this.chips.onmouseover = (event) => this.point(indexOf(event));
    this.chips.onmouseleave = () => this.point(-1);
    this.chips.onclick = (event) => this.pin(indexOf(event));
    this.chips.onfocusin = (event) => this.point(indexOf(event));
    this.chips.onkeydown = (event) => this.key(event);
    this.grid.onmousemove = (event) => this.point(...this.cellAt(event));
    this.grid.onmouseleave = () => this.point(-1);
    this.grid.onclick = (event) => {
      const [index, layer] = this.cellAt(event);
      if (index < 0) return;
      if (layer >= 0) {
        this.showLayer(layer + 1);
        this.send("layer", this.layer);
      }
      this.pin(index);
    };
  }

  update({ data, setStateValue, setTriggerValue }) {
    this.send = setStateValue;
    this.trigger = setTriggerValue;
    this.observer.observe(this.root);
    if (this.data?.key === data.key) return;
    const focused = this.chips.contains(this.root.getRootNode().activeElement);
    this.stop();
    this.data = data;
    this.layer = data.layer;
    this.selected = data.selected;
    this.pointed = -1;
    this.scrubber.max = data.num_layers;
    this.scrubber.value = data.layer;
    this.chips.dir = data.direction;
    this.chips.innerHTML = data.chips; // escaped by markup.chips_html
    this.tokens = [...this.chips.querySelectorAll(".chip")];
    this.chips.classList.toggle("dense", data.dense);
    this.legend.innerHTML = data.legend;
    this.drawGrid();
    this.makeReachable(Math.max(0, this.selected));
    if (focused) this.tokens[Math.max(0, this.selected)]?.focus();
  }

  close() {
    this.stop();
    this.observer.disconnect();
  }

  // ---- what the user does ----

  showLayer(layer) {
    this.layer = Math.max(0, Math.min(this.data.num_layers, layer));
    this.scrubber.value = this.layer;
    this.paint();
  }

  point(index, layer = -1) {
    this.pointed = index;
    this.pointedLayer = layer;
    this.paintPointed();
    if (index >= 0) this.reveal(this.tokens[index]);
  }

  // Scrolls the chips of a long input, never the page.
  reveal(chip) {
    const box = this.chips.getBoundingClientRect();
    const place = chip.getBoundingClientRect();
    if (place.top < box.top) this.chips.scrollTop -= box.top - place.top + 8;
    if (place.bottom > box.bottom) this.chips.scrollTop += place.bottom - box.bottom + 8;
  }

  pin(index) {
    if (index < 0) return;
    this.selected = index === this.selected ? -1 : index;
    this.makeReachable(index);
    this.paint();
    this.send("token", this.selected < 0 ? null : this.data.positions[index][0]);
  }

  key(event) {
    const index = indexOf(event);
    const forward = this.chips.dir === "rtl" ? "ArrowLeft" : "ArrowRight";
    const backward = this.chips.dir === "rtl" ? "ArrowRight" : "ArrowLeft";
    const moves = { [forward]: index + 1, [backward]: index - 1, Home: 0, End: Infinity };
    if (index < 0 || event.ctrlKey || event.metaKey || event.altKey) return;
    if (event.key in moves) this.moveTo(moves[event.key]);
    else if (event.key === "ArrowDown") this.step(1);
    else if (event.key === "ArrowUp") this.step(-1);
    else if (event.key === "Enter" || event.key === " ") this.pin(index);
    else if (event.key === "k" && this.data.can_force) this.force(index, "keep");
    else if (event.key === "d" && this.data.can_force) this.force(index, "drop");
    else return;
    event.preventDefault();
    event.stopPropagation();
  }

  moveTo(index) {
    const target = Math.max(0, Math.min(this.tokens.length - 1, index));
    this.makeReachable(target);
    this.tokens[target].focus();
  }

  step(by) {
    this.showLayer(this.layer + by);
    this.send("layer", this.layer);
  }

  force(index, how) {
    this.selected = index;
    this.trigger("force", { positions: this.data.positions[index], how });
  }

  togglePlay() {
    if (this.timer) return this.stop();
    if (this.layer >= this.data.num_layers) this.showLayer(0);
    this.play.textContent = "❚❚";
    this.play.setAttribute("aria-label", "Pause");
    this.timer = setInterval(() => {
      this.showLayer(this.layer + 1);
      if (this.layer < this.data.num_layers) return;
      this.stop();
      this.send("layer", this.layer);
    }, PLAY_MS);
  }

  stop() {
    clearInterval(this.timer);
    this.timer = null;
    this.play.textContent = "▶";
    this.play.setAttribute("aria-label", "Play layer by layer");
  }

  // ---- what is drawn ----

  paint() {
    this.tokens.forEach((chip, index) => {
      const survived = Number(chip.dataset.s);
      const state =
        survived >= this.layer ? "kept" : survived === this.layer - 1 ? "here" : "gone";
      for (const name of ["kept", "here", "gone"]) chip.classList.toggle(name, name === state);
      chip.setAttribute("aria-selected", String(index === this.selected));
    });
    this.paintCount();
    this.paintLine();
    this.paintPointed();
  }

  paintCount() {
    const { lengths, num_layers } = this.data;
    const where = this.layer ? `after layer ${this.layer} of ${num_layers}` : "at the input";
    const bold = document.createElement("b");
    bold.textContent = lengths[this.layer];
    const of = ` of ${lengths[0]} token${lengths[0] === 1 ? "" : "s"} live ${where}`;
    this.count.replaceChildren(bold, of);
    this.scrubber.setAttribute("aria-valuetext", `${lengths[this.layer]}${of}`);
  }

  paintPointed() {
    const index = this.pointed >= 0 ? this.pointed : this.selected;
    this.tokens.forEach((chip, i) => chip.classList.toggle("near", i === this.pointed));
    this.detail.classList.toggle("hint", index < 0);
    this.detail.textContent = index < 0 ? this.data.hint : this.sentence(index);
    this.frame(".pointed", this.pointed);
    this.frame(".pinned", this.selected);
  }

  sentence(index) {
    const layer = this.pointed === index ? this.pointedLayer : -1;
    const score = layer >= 0 ? this.data.scores[layer][index] : null;
    if (score === null) return this.data.why[index];
    const threshold = this.data.thresholds[layer];
    const against = threshold === null ? "" : ` against a threshold of ${threshold}`;
    return `${this.data.why[index]} At layer ${layer + 1}: ${score}${against}.`;
  }

  makeReachable(index) {
    this.tokens.forEach((chip, i) => chip.setAttribute("tabindex", i === index ? "0" : "-1"));
  }

  drawGrid() {
    this.width = this.root.clientWidth;
    this.place = placement(this.width, this.data);
    const { bands, width, height } = this.place;
    const svg = element("svg", { width, height, role: "img", "aria-label": this.data.summary });
    for (let band = 0; band < bands; band++) this.drawBand(svg, band);
    for (const name of ["pointed", "pinned"]) {
      svg.append(element("rect", { class: `column ${name}`, visibility: "hidden" }));
    }
    this.grid.replaceChildren(svg);
    this.paint();
  }

  drawBand(svg, band) {
    const { cell, row, perBand, gutter } = this.place;
    const y0 = this.top(band);
    const start = band * perBand;
    const end = Math.min(start + perBand, this.tokens.length);
    this.drawCells(svg, start, end, y0);
    const bandWidth = (end - start) * cell;
    for (let layer = 0; layer < this.data.num_layers; layer++) {
      const y = y0 + layer * row + row / 2 + 4;
      const label = { x: gutter - 8, y, "text-anchor": "end", "data-row": layer + 1 };
      if (row === ROW) svg.append(text(layer + 1, label));
      else if (layer % 2 === 0) svg.append(text(layer + 1, { ...label, class: "tight" }));
      if (this.place.notes) this.drawNotes(svg, gutter + bandWidth, y, this.data.notes[layer]);
    }
    if (this.place.labels > 2) {
      svg.append(text("layer", { x: gutter - 6, y: y0 - 7, "text-anchor": "end" }));
      if (this.place.notes) this.drawNotes(svg, gutter + bandWidth, y0 - 7, this.data.note_heads);
    }
    if (this.place.labels > 2) this.drawNames(svg, start, end, y0);
    const wide = { x: gutter, width: bandWidth };
    svg.append(element("rect", { class: "later", "data-top": y0, ...wide }));
    svg.append(element("line", { class: "line", "data-top": y0, x1: 4, x2: gutter + bandWidth }));
  }

  drawNotes(svg, x, y, [live, threshold]) {
    svg.append(text(live, { x: x + 44, y, "text-anchor": "end" }));
    svg.append(text(threshold, { x: x + 108, y, "text-anchor": "end" }));
  }

  // One path a kind of cell instead of one element a cell: 512 tokens draw as fast as 20.
  drawCells(svg, start, end, y0) {
    const { cell, row, gutter } = this.place;
    const paths = {};
    const add = (kind, d) => (paths[kind] = (paths[kind] ?? "") + d);
    for (let layer = 0; layer < this.data.num_layers; layer++) {
      for (let index = start; index < end; index++) {
        const kind = this.data.grid[layer][index];
        const x = gutter + (index - start) * cell;
        const y = y0 + layer * row;
        if (kind !== ".") add(kind, box(x, y, cell - 1, row - 1));
        if (kind === "x") add("cross", cross(x + (cell - 1) / 2, y + (row - 1) / 2, cell));
        if (kind === "!") add("dot", dot(x + (cell - 1) / 2, y + (row - 1) / 2, cell));
        if (this.isGhost(index, layer)) add("ghost", box(x + 0.5, y + 0.5, cell - 2, row - 2));
      }
    }
    for (const [kind, d] of Object.entries(paths)) svg.append(element("path", style(kind, d)));
  }

  isGhost(index, layer) {
    const learned = this.data.learned[index];
    const survived = Number(this.tokens[index].dataset.s);
    if (learned === null || learned === survived) return false;
    return layer === learned || (layer > survived && layer <= learned);
  }

  drawNames(svg, start, end, y0) {
    const { cell, gutter } = this.place;
    for (let index = start; index < end; index++) {
      const name = this.data.names[index];
      const letters = [...name];
      const isLong = letters.length > LABEL_CHARACTERS;
      const shown = isLong ? letters.slice(0, LABEL_CHARACTERS - 1).join("") + "…" : name;
      const x = gutter + (index - start) * cell + cell / 2 + 3;
      svg.append(
        text(shown, {
          class: "name",
          "data-name": index,
          transform: `translate(${x} ${y0 - 6}) rotate(-50)`,
        }),
      );
    }
  }

  paintLine() {
    const { row } = this.place;
    const bottom = this.data.num_layers * row;
    for (const rect of this.grid.querySelectorAll(".later")) {
      rect.setAttribute("y", Number(rect.dataset.top) + this.layer * row);
      rect.setAttribute("height", bottom - this.layer * row);
    }
    for (const line of this.grid.querySelectorAll(".line")) {
      const y = Number(line.dataset.top) + this.layer * row - 0.5;
      line.setAttribute("y1", y);
      line.setAttribute("y2", y);
    }
    for (const label of this.grid.querySelectorAll("[data-row]")) {
      label.classList.toggle("now", Number(label.dataset.row) === this.layer);
    }
    for (const name of this.grid.querySelectorAll(".name")) {
      const survived = Number(this.tokens[name.dataset.name].dataset.s);
      name.classList.toggle("out", survived < this.layer);
    }
  }

  frame(selector, index) {
    const rect = this.grid.querySelector(selector);
    if (!rect) return;
    rect.setAttribute("visibility", index < 0 ? "hidden" : "visible");
    if (index < 0) return;
    const { cell, row, perBand, gutter } = this.place;
    rect.setAttribute("x", gutter + (index % perBand) * cell - 1);
    rect.setAttribute("y", this.top(Math.floor(index / perBand)) - 1);
    rect.setAttribute("width", cell + 1);
    rect.setAttribute("height", this.data.num_layers * row + 1);
  }

  top(band) {
    return band * this.place.bandHeight + this.place.labels;
  }

  // Column and layer under the pointer; layer −1 above the rows, column −1 beside the cells.
  cellAt(event) {
    const svg = this.grid.querySelector("svg");
    if (!svg) return [-1, -1];
    const name = event.target.dataset?.name;
    if (name !== undefined) return [Number(name), -1];
    const { cell, row, perBand, gutter, bandHeight, bands } = this.place;
    const frame = svg.getBoundingClientRect();
    const offset = Math.floor((event.clientX - frame.left - gutter) / cell);
    const band = Math.floor((event.clientY - frame.top) / bandHeight);
    if (offset < 0 || offset >= perBand || band >= bands) return [-1, -1];
    const index = band * perBand + offset;
    const layer = Math.floor((event.clientY - frame.top - this.top(band)) / row);
    if (index >= this.tokens.length || layer < 0 || layer >= this.data.num_layers) return [-1, -1];
    return [index, layer];
  }
}

// Where the cells go: one band with names while they fit, else several dense bands without.
function placement(width, { grid, num_layers, notes }) {
  const count = Math.max(1, grid[0]?.length ?? 1);
  const narrow = width < 560;
  const smallest = narrow ? 6 : 9;
  const noteWidth = narrow || !notes.length ? 0 : 112;
  const fits = count * smallest <= width - GUTTER - noteWidth;
  const room = Math.max(smallest, width - GUTTER - (fits ? noteWidth : 2));
  const bands = Math.ceil((count * smallest) / room);
  const perBand = Math.ceil(count / bands);
  const cell = Math.max(smallest, Math.min(34, Math.floor(room / perBand)));
  const row = bands > 1 ? DENSE_ROW : ROW;
  const labels = bands === 1 && cell >= 15 ? LABELS : 2;
  const bandHeight = labels + num_layers * row + (bands > 1 ? BAND_GAP : 4);
  const overhang = labels > 2 ? LABELS - 14 : 2;
  const used = GUTTER + perBand * cell + Math.max(overhang, fits ? noteWidth : 0);
  return {
    bands, perBand, cell, row, labels, bandHeight,
    gutter: GUTTER,
    notes: fits && noteWidth > 0,
    width: Math.min(used, Math.max(width, GUTTER + perBand * cell + 2)),
    height: bands * bandHeight,
  };
}

function indexOf(event) {
  const chip = event.target.closest?.(".chip");
  return chip ? Number(chip.dataset.i) : -1;
}

function element(name, attributes) {
  const node = document.createElementNS(SVG, name);
  for (const [key, value] of Object.entries(attributes)) node.setAttribute(key, value);
  return node;
}

function text(content, attributes) {
  const node = element("text", attributes);
  node.textContent = content;
  return node;
}

const box = (x, y, width, height) => `M${x} ${y}h${width}v${height}h${-width}z`;

function cross(x, y, cell) {
  const arm = Math.min(3.5, (cell - 3) / 2);
  return `M${x - arm} ${y - arm}l${2 * arm} ${2 * arm}m0 ${-2 * arm}l${-2 * arm} ${2 * arm}`;
}

function dot(x, y, cell) {
  const radius = Math.min(3, cell / 4);
  return `M${x - radius} ${y}a${radius} ${radius} 0 1 0 ${2 * radius} 0a${radius} ${radius} 0 1 0 ${-2 * radius} 0z`;
}

function style(kind, d) {
  if (kind === "x") return { class: "left", d };
  if (kind === "cross") return { class: "cross", d };
  if (kind === "dot") return { class: "spared", d };
  if (kind === "ghost") return { class: "ghost", d };
  const level = kind === "!" ? 0 : Number(kind);
  return { class: "heat", d, "fill-opacity": 0.24 + (0.76 * level) / 7 };
}
