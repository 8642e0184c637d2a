// The token view of two traces of one text; see base.js of the token view. A is drawn in the upper half of a
// cell and B in the lower one, so that a cell says who reads a token without its colour.

const LETTER_CELL = 13; // the narrowest cell that has room for a letter

class CompareView extends Base {
  constructor(root) {
    super(root);
    this.tally = root.querySelector("[data-part=tally]");
  }

  states() {
    return ["both", "only-a", "only-b", "neither"];
  }

  stateOf(index) {
    return this.stateAfter(index, this.layer);
  }

  stateAfter(index, layer) {
    const { a, b } = this.tokens[index].dataset;
    const [inA, inB] = [Number(a) >= layer, Number(b) >= layer];
    if (inA && inB) return "both";
    if (inA) return "only-a";
    return inB ? "only-b" : "neither";
  }

  isOut(index) {
    return this.stateOf(index) === "neither";
  }

  counts() {
    const { lengths, num_tokens } = this.data;
    const [a, b] = lengths[this.layer];
    return [`A ${a}, B ${b}`, ` of ${num_tokens} token${num_tokens === 1 ? "" : "s"} live ${this.where()}`];
  }

  // How many tokens are in each state after the layer shown; Python counted them.
  paintMore() {
    const { tallies } = this.data;
    for (const entry of this.tally.querySelectorAll("[data-state]")) {
      entry.textContent = tallies[this.layer][entry.dataset.state];
    }
    this.tally.querySelector("[data-note]").textContent = this.data.row_notes[this.layer];
  }

  sentences(index) {
    const layer = this.pointed === index ? this.pointedLayer : -1;
    return ["a", "b"].map((side) => {
      const { why, scores, thresholds } = this.data.sides[side];
      const score = layer >= 0 ? scores[layer]?.[index] ?? null : null;
      if (score === null) return why[index];
      const threshold = thresholds[layer];
      const against = threshold === null ? "" : ` against a threshold of ${threshold}`;
      return `${why[index]} At layer ${layer + 1}: ${score}${against}.`;
    });
  }

  kinds() {
    return [...this.states(), "letter"];
  }

  drawCell(add, index, layer, x, y) {
    const { cell, row } = this.place;
    const state = this.stateAfter(index, layer + 1);
    const half = Math.floor((row - 1) / 2);
    if (state === "both") add("both", box(x, y, cell - 1, row - 1));
    else if (state === "only-a") add("only-a", box(x, y, cell - 1, half));
    else if (state === "only-b") add("only-b", box(x, y + row - 1 - half, cell - 1, half));
    else add("neither", box(x + (cell - 1) / 2 - 1, y + row / 2 - 1.5, 2, 2));
    if (cell < LETTER_CELL || row !== ROW) return;
    if (state === "only-a") add("letter", letterA(x + (cell - 1) / 2, y + half / 2));
    if (state === "only-b") add("letter", letterB(x + (cell - 1) / 2, y + row - 1 - half / 2));
  }

  style(kind) {
    return { class: kind };
  }
}

// Drawn as strokes: a text element a cell would be slow.
const letterA = (x, y) => `M${x - 2.5} ${y + 3}l2.5 -6l2.5 6m-4.2 -2h3.4`;
const letterB = (x, y) =>
  `M${x - 2} ${y - 3}v6h2.4a1.6 1.6 0 0 0 0 -3.2h-2.4h2a1.4 1.4 0 0 0 0 -2.8h-2`;

export default show(CompareView);
