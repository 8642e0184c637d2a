// The token view of one trace; see base.js.

class TokenView extends Base {
  states() {
    return ["kept", "here", "gone"];
  }

  stateOf(index) {
    const survived = this.survived(index);
    if (survived >= this.layer) return "kept";
    return survived === this.layer - 1 ? "here" : "gone";
  }

  isOut(index) {
    return this.survived(index) < this.layer;
  }

  survived(index) {
    return Number(this.tokens[index].dataset.s);
  }

  counts() {
    const { lengths } = this.data;
    const of = ` of ${lengths[0]} token${lengths[0] === 1 ? "" : "s"} live ${this.where()}`;
    return [String(lengths[this.layer]), of];
  }

  sentences(index) {
    const layer = this.pointed === index ? this.pointedLayer : -1;
    const score = layer >= 0 ? this.data.scores[layer][index] : null;
    const why = this.tokens[index].title;
    if (score === null) return [why];
    const threshold = this.data.thresholds[layer];
    const against = threshold === null ? "" : ` against a threshold of ${threshold}`;
    return [`${why} At layer ${layer + 1}: ${score}${against}.`];
  }

  keyMore(key, index) {
    const how = { k: "keep", d: "drop" }[key];
    if (!how || !this.data.can_force) return false;
    if (how === "drop" && this.data.protected[index]) {
      this.detail.textContent = `‘${this.data.names[index]}’ is protected: it stays whatever its score.`;
      return true;
    }
    this.trigger("force", { positions: this.data.positions[index], how });
    return true;
  }

  kinds() {
    return [..."01234567!-x", "cross", "dot", "ghost"];
  }

  drawCell(add, index, layer, x, y) {
    const { cell, row } = this.place;
    const kind = this.data.grid[layer][index];
    if (kind === "-") add("-", box(x, y + row / 2 - 1.5, cell - 1, 2));
    else if (kind !== ".") add(kind, box(x, y, cell - 1, row - 1));
    if (kind === "x") add("cross", cross(x + (cell - 1) / 2, y + (row - 1) / 2, cell));
    if (kind === "!") add("dot", dot(x + (cell - 1) / 2, y + (row - 1) / 2, cell));
    if (this.isGhost(index, layer)) add("ghost", box(x + 0.5, y + 0.5, cell - 2, row - 2));
  }

  isGhost(index, layer) {
    const learned = this.data.learned[index];
    const survived = this.survived(index);
    if (learned === null || learned === survived) return false;
    return layer === learned || (layer > survived && layer <= learned);
  }

  style(kind) {
    const named = { x: "left", cross: "cross", dot: "spared", ghost: "ghost", "-": "passed" }[kind];
    if (named) return { class: named };
    const level = kind === "!" ? 0 : Number(kind);
    return { class: "heat", "fill-opacity": 0.24 + (0.76 * level) / 7 };
  }
}

function cross(x, y, cell) {
  const arm = Math.min(3.5, (cell - 3) / 2);
  return `M${x - arm} ${y - arm}l${2 * arm} ${2 * arm}m0 ${-2 * arm}l${-2 * arm} ${2 * arm}`;
}

function dot(x, y, cell) {
  const radius = Math.min(3, cell / 4);
  return `M${x - radius} ${y}a${radius} ${radius} 0 1 0 ${2 * radius} 0a${radius} ${radius} 0 1 0 ${-2 * radius} 0z`;
}

export default show(TokenView);
