// What the token view and the comparison share: chips, layer scrubber and token × layer grid.
// Python sends every text and number (see token_view.py); here is only what moves. User text
// enters the page as escaped chips or through textContent, never through innerHTML. Streamlit takes
// one script a component, so Python puts this file before that of the component.

const SVG = "http://www.w3.org/2000/svg";
const ROW = 18;
const DENSE_ROW = 11;
const GUTTER = 34;
const LABELS = 70;
const LABEL_CHARACTERS = 11;
const OVERHANG = LABELS - 14; // of the last name, which stands askew
const NAMED_CELL = 15; // the narrowest column that has room for a name
const NAMED_HEIGHT = 640; // from here on bands with names are too much to scroll
const PLAY_MS = 700;
const BAND_GAP = 14;

const show = (View) => (component) => {
  const root = component.parentElement.querySelector(".tv");
  if (!root) return;
  root.view ??= new View(root);
  root.view.update(component);
  return () => root.view.close();
};

class Base {
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

  // ---- what a component says of itself ----

  states() { return []; } // every class that `stateOf` may give
  stateOf(_index) { return ""; } // class of a chip after `this.layer` layers
  isOut(_index) { return false; } // whether its name in the grid is dimmed
  counts() { return ["", ""]; } // beside the scrubber: what is bold, and the rest
  sentences(_index) { return []; } // below the chips, about one token
  paintMore() {} // what else follows the scrubber
  kinds() { return []; } // of cells and marks, in the order in which they are drawn
  drawCell(_add, _index, _layer, _x, _y) {} // adds to the paths, by kind
  style(_kind) { return {}; } // attributes of the path of one kind

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
    const focused = this.tokens?.indexOf(this.root.getRootNode().activeElement) ?? -1;
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
    const reachable = focused >= 0 ? focused : Math.max(0, this.selected);
    this.makeReachable(Math.min(reachable, this.tokens.length - 1));
    if (focused >= 0) this.tokens[Math.min(focused, this.tokens.length - 1)]?.focus();
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
    else if (!this.keyMore(event.key, index)) return;
    event.preventDefault();
    event.stopPropagation();
  }

  keyMore(_key, _index) { return false; } // whether a key meant something else

  moveTo(index) {
    const target = Math.max(0, Math.min(this.tokens.length - 1, index));
    this.makeReachable(target);
    this.tokens[target].focus();
  }

  step(by) {
    this.showLayer(this.layer + by);
    this.send("layer", this.layer);
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
      const state = this.stateOf(index);
      for (const name of this.states()) chip.classList.toggle(name, name === state);
      chip.setAttribute("aria-selected", String(index === this.selected));
    });
    this.paintCount();
    this.paintLine();
    this.paintPointed();
    this.paintMore();
  }

  paintCount() {
    const [strong, rest] = this.counts();
    const bold = document.createElement("b");
    bold.textContent = strong;
    this.count.replaceChildren(bold, rest);
    this.scrubber.setAttribute("aria-valuetext", `${strong}${rest}`);
  }

  where() {
    return this.layer ? `after layer ${this.layer} of ${this.data.num_layers}` : "at the input";
  }

  paintPointed() {
    const index = this.pointed >= 0 ? this.pointed : this.selected;
    this.tokens.forEach((chip, i) => chip.classList.toggle("near", i === this.pointed));
    this.detail.classList.toggle("hint", index < 0);
    const lines = index < 0 ? [this.data.hint] : this.sentences(index);
    this.detail.replaceChildren(
      ...lines.flatMap((line, i) => (i ? [document.createElement("br"), line] : [line])),
    );
    this.frame(".pointed", this.pointed);
    this.frame(".pinned", this.selected);
  }

  makeReachable(index) {
    this.tokens.forEach((chip, i) => chip.setAttribute("tabindex", i === index ? "0" : "-1"));
  }

  drawGrid() {
    this.width = this.root.clientWidth;
    this.place = placement(this.width, this.tokens.length, this.data);
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
    const { cell, row, perBand, gutter, hasNames } = this.place;
    const y0 = this.top(band);
    const start = band * perBand;
    const end = Math.min(start + perBand, this.tokens.length);
    this.drawCells(svg, start, end, y0);
    const bandWidth = (end - start) * cell;
    const hasNotes = this.place.notes && band === 0; // they count the whole input, not the band
    for (let layer = 0; layer < this.data.num_layers; layer++) {
      const y = y0 + layer * row + row / 2 + 4;
      const label = { x: gutter - 8, y, "text-anchor": "end", "data-row": layer + 1 };
      if (row === ROW) svg.append(text(layer + 1, label));
      else if (layer % 2 === 0) svg.append(text(layer + 1, { ...label, class: "tight" }));
      if (hasNotes) this.drawNotes(svg, gutter + bandWidth, y, this.data.notes[layer]);
    }
    if (hasNames) {
      svg.append(text("layer", { x: gutter - 6, y: y0 - 7, "text-anchor": "end" }));
      this.drawNames(svg, start, end, y0);
    }
    if (hasNotes && hasNames) {
      this.drawNotes(svg, gutter + bandWidth, y0 - 7, this.data.note_heads);
    }
    const wide = { x: gutter, width: bandWidth };
    svg.append(element("rect", { class: "later", "data-top": y0, ...wide }));
    svg.append(element("line", { class: "line", "data-top": y0, x1: 4, x2: gutter + bandWidth }));
    this.drawQuestion(svg, start, end, y0);
  }

  // Bars over and under the answer's columns, and a line where the question ends.
  drawQuestion(svg, start, end, y0) {
    const { cell, row, gutter } = this.place;
    const { answer, context } = this.data;
    const height = this.data.num_layers * row;
    const left = (index) => gutter + (index - start) * cell;
    const shown = answer.filter((index) => index >= start && index < end);
    if (shown.length) {
      const [x, width] = [left(shown[0]), shown.length * cell - 1];
      const d = box(x, y0 - 2, width, 2) + box(x, y0 + height, width, 2);
      svg.append(element("path", { d, class: "answer" }));
    }
    if (context === null || context < start || context >= end) return;
    const d = `M${left(context) - 0.5} ${y0 - 2}v${height + 5}`;
    svg.append(element("path", { d, class: "divider" }));
  }

  drawNotes(svg, x, y, notes) {
    notes.forEach((note, i) => {
      svg.append(text(note, { x: x + this.data.note_ends[i], y, "text-anchor": "end" }));
    });
  }

  // One path a kind of cell instead of one element a cell: 512 tokens draw as fast as 20.
  drawCells(svg, start, end, y0) {
    const { cell, row, gutter } = this.place;
    const paths = new Map(this.kinds().map((kind) => [kind, ""]));
    const add = (kind, d) => paths.set(kind, paths.get(kind) + d);
    for (let layer = 0; layer < this.data.num_layers; layer++) {
      for (let index = start; index < end; index++) {
        this.drawCell(add, index, layer, gutter + (index - start) * cell, y0 + layer * row);
      }
    }
    for (const [kind, d] of paths) {
      if (d) svg.append(element("path", { d, ...this.style(kind) }));
    }
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
      name.classList.toggle("out", this.isOut(Number(name.dataset.name)));
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

// Where the cells go: in bands with names as long as those are not too tall, else in dense ones.
function placement(width, count, { num_layers, notes, note_ends }) {
  const isNarrow = width < 560;
  const noteWidth = isNarrow || !notes.length ? 0 : Math.max(...note_ends) + 4;
  const named = layOut(width - GUTTER - Math.max(OVERHANG, noteWidth), count, NAMED_CELL);
  const namedHeight = LABELS + num_layers * ROW + 8;
  const hasNames = named.bands * namedHeight <= NAMED_HEIGHT || named.bands === 1;
  const dense = isNarrow ? 6 : 9;
  const { bands, perBand, cell } = hasNames ? named : layOut(width - GUTTER - 2, count, dense);
  const row = hasNames ? ROW : DENSE_ROW;
  const labels = hasNames ? LABELS : 2;
  const bandHeight = hasNames ? namedHeight : labels + num_layers * row + BAND_GAP;
  const notesFit = noteWidth > 0 && GUTTER + perBand * cell + noteWidth <= width;
  const used = GUTTER + perBand * cell + Math.max(hasNames ? OVERHANG : 2, notesFit ? noteWidth : 0);
  return {
    bands, perBand, cell, row, labels, bandHeight, hasNames,
    gutter: GUTTER,
    notes: notesFit,
    width: Math.min(used, Math.max(width, GUTTER + perBand * cell + 2)),
    height: bands * bandHeight,
  };
}

// As few bands of about equal width as cells of the smallest width allow.
function layOut(room, count, smallest) {
  const most = Math.max(1, Math.floor(room / smallest));
  const bands = Math.max(1, Math.ceil(count / most));
  const perBand = Math.max(1, Math.ceil(count / bands));
  return { bands, perBand, cell: Math.max(smallest, Math.min(34, Math.floor(room / perBand))) };
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
