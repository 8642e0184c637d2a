// A whole pruned pass of the encoder in one call; the packed runner says the same in PyTorch.
//
// Live tokens of all sequences lie one after another. Attention, scores, the decision and what is
// gathered from the tokens that stay follow one another while a sequence is in the cache; between
// them and the linear maps all threads meet. States are in float32, whatever the weights are.
//
// Axes: T live tokens of a block of sequences, H hidden, L layers that run, A all tokens of the batch.

#include <new>

#include "attention.h"

extern "C" {

struct Norm {
  const float *weight, *bias;
};

struct Layer {
  Map query, key_value, output, inner, outer;  // the softmax's scale is in the query
  Norm attended, finished;
  const float* direction;  // of the learned factor on the score, H; null: none
  float threshold;         // a token stays if its score is above
  int32_t index;           // row in what is counted and recorded
};

struct Model {
  const Layer* layers;  // those that run, L of them
  int64_t num_layers, hidden, heads, intermediate;
  float eps;
  int32_t type;              // of the weights: 0 float32, 1 bfloat16, 2 int8
  const float* by_distance;  // heads x (2 reach + 1); null: nothing depends on distance
  int64_t reach;
};

struct Rule {
  int32_t scores;            // scores are computed
  int32_t prunes;            // and decide; else every token stays
  int32_t is_ordinary;       // the score's unit: its mean over tokens neither protected nor special
  int32_t is_never_empty;    // every sequence has a protected token
  int32_t finishes_first;    // the last layer finishes only the first token of each sequence
  int32_t asks_first_alone;  // and decides nothing there: its query is the only one
};

struct Batch {
  int64_t num_sequences, num_tokens;  // A
  const int64_t* lengths;             // tokens of each sequence
  const float* hidden;                // A x H: embeddings
  const int32_t* position;            // A: in the original sequence
  const uint8_t *is_protected, *is_special;
  const int64_t* read_at;  // A: row of `states` that takes the token's last state; -1: nobody reads it
  float* states;
  uint8_t* remaining;               // A: set to 1 where a token is live in the end
  int64_t *entered, *asked, *left;  // L x sequences: tokens
  float *score, *attention;         // L x A, if recorded, else null
  uint8_t *live, *retained;
  int32_t threads;
};

}  // extern "C"

namespace {

constexpr int BLOCK_TOKENS = 1024;  // that go through the layers together; a longer sequence goes alone

// Live tokens of a block of sequences, and room for what a layer makes of them.
struct Block {
  std::vector<int> start, length, num_kept;            // of each sequence
  std::vector<int> token;                              // T: place in the batch
  std::vector<int32_t> position;                       // T
  std::vector<uint8_t> retained;                       // T: by the decision
  std::vector<int> kept;                               // T: each sequence's finished tokens, from its start on
  std::vector<int> from_context, from_hidden;          // rows of the finished tokens
  std::vector<float> hidden, query, key_value, context, attended, inner, received;
};

thread_local Workspace workspace;
thread_local Block workplace;

class Pass {
 public:
  Pass(const Model& model, const Rule& rule, const Batch& batch)
      : model(model), rule(rule), batch(batch), H(model.hidden), head_size(H / model.heads) {}

  // The block of the sequences from `begin` to `end`, through all layers.
  template <class Type>
  void run(int begin, int end, int64_t first_token) {
    enter(begin, end, first_token);
#pragma omp parallel num_threads(space.threads)
    for (int64_t l = 0; l < model.num_layers; ++l) layer<Type>(model.layers[l], l + 1 == model.num_layers);
    for (int t = 0; t < num_live(); ++t) {
      read(t);
      batch.remaining[block.token[t]] = 1;
    }
  }

 private:
  const Model& model;
  const Rule& rule;
  const Batch& batch;
  const int64_t H, head_size;
  Workspace& space = workspace;
  Block& block = workplace;
  int first_sequence = 0, num_sequences = 0;

  int num_live() const { return block.start[num_sequences]; }

  void enter(int begin, int end, int64_t first_token) {
    first_sequence = begin, num_sequences = end - begin;
    block.start.assign(1, 0);
    block.length.assign(batch.lengths + begin, batch.lengths + end);
    for (int n : block.length) block.start.push_back(block.start.back() + n);
    const int64_t T = num_live(), longest = *std::max_element(block.length.begin(), block.length.end());
    block.token.resize(T);
    for (int t = 0; t < T; ++t) block.token[t] = first_token + t;
    block.position.assign(batch.position + first_token, batch.position + first_token + T);
    block.num_kept.assign(num_sequences, 0);
    block.retained.assign(T, 1);
    for (auto* rows : {&block.kept, &block.from_context, &block.from_hidden}) make_room(*rows, T);
    for (auto* states : {&block.hidden, &block.query, &block.context, &block.attended})
      make_room(*states, T * H);
    make_room(block.key_value, 2 * T * H);
    make_room(block.inner, T * model.intermediate);
    make_room(block.received, T);
    const float* embedded = batch.hidden + first_token * H;
    std::copy(embedded, embedded + T * H, block.hidden.begin());
    space.threads = std::max(1, batch.threads);
    if (int(space.scratch.size()) < space.threads) space.scratch.resize(space.threads);
    for (Scratch& own : space.scratch) {
      make_room(own.packed, BLOCK_ROWS * std::max(H, model.intermediate));
      make_room(own.panel, WIDE * std::max(longest, head_size));
      make_room(own.probabilities, model.heads * longest * padded(longest));
      make_room(own.received, model.heads * padded(longest));
    }
  }

  // Everything below is called by all threads of the pass together.

  template <class Type>
  void layer(const Layer& weights, bool is_last) {
    const bool finishes_first = is_last && rule.finishes_first;
    const bool asks_first_alone = is_last && rule.asks_first_alone;
    const bool decides_late = weights.direction && rule.prunes && !asks_first_alone;
    project<Type>(weights, asks_first_alone);
    attention(weights, asks_first_alone, finishes_first, decides_late);
    if (decides_late) {
      // The score's factor reads the states of all tokens after attention.
      attend_output<Type>(weights, false);
#pragma omp for schedule(static)
      for (int s = 0; s < num_sequences; ++s) decide(s, weights, finishes_first);
      keep(weights, asks_first_alone);
      finish<Type>(weights, block.from_hidden.data());
    } else {
      keep(weights, asks_first_alone);
      attend_output<Type>(weights, true);
      finish<Type>(weights, nullptr);
    }
  }

  // Query, key and value of all tokens; or the query of each sequence's first token alone.
  template <class Type>
  void project(const Layer& weights, bool asks_first_alone) {
    Rows rows{block.hidden.data(), H, num_live()};
    multiply<Type>(rows, weights.key_value, space, write(block.key_value, weights.key_value));
    if (asks_first_alone) rows.index = block.start.data(), rows.count = num_sequences;
    multiply<Type>(rows, weights.query, space, write(block.query, weights.query));
  }

  // Context of the tokens that stay, each sequence's from its own start on; or of all, where the
  // decision needs their states. Sequences are shared out among the threads, of few the heads.
  void attention(const Layer& weights, bool asks_first_alone, bool finishes_first, bool decides_late) {
    const bool scores = rule.scores && !asks_first_alone;
    auto choose = [&](int s) {
      if (asks_first_alone || decides_late || !scores)
        keep_all(s, asks_first_alone ? 1 : block.length[s]);
      if (scores && !decides_late) decide(s, weights, finishes_first);
    };
    if (num_sequences >= space.threads) {
#pragma omp for schedule(dynamic)
      for (int s = 0; s < num_sequences; ++s) {
        Scratch& own = space.own();
        for (int h = 0; h < model.heads; ++h) look(s, h, asks_first_alone, scores, own, own);
        if (scores) add_heads(s, own);
        choose(s);
        for (int h = 0; h < model.heads; ++h) collect(s, h, asks_first_alone, own, own);
      }
      return;
    }
    for (int s = 0; s < num_sequences; ++s) {
      Scratch& shared = space.scratch[0];
#pragma omp for schedule(static)
      for (int h = 0; h < model.heads; ++h) look(s, h, asks_first_alone, scores, space.own(), shared);
#pragma omp single
      {
        if (scores) add_heads(s, shared);
        choose(s);
      }
#pragma omp for schedule(static)
      for (int h = 0; h < model.heads; ++h) collect(s, h, asks_first_alone, space.own(), shared);
    }
  }

  Head head(int s, int h, bool asks_first_alone) const {
    const int64_t begin = block.start[s], asking = asks_first_alone ? s : begin;
    const float* key = block.key_value.data() + begin * 2 * H + h * head_size;
    return {block.query.data() + asking * H + h * head_size, key, key + H, H, 2 * H,
            asks_first_alone ? 1 : block.length[s], block.length[s], int(head_size)};
  }

  float* probabilities(int s, int h, Scratch& at) const {
    return at.probabilities.data() + h * int64_t(block.length[s]) * padded(block.length[s]);
  }

  // Probabilities of a head, and their column sums.
  void look(int s, int h, bool asks_first_alone, bool scores, Scratch& own, Scratch& at) {
    const float* table = model.by_distance ? model.by_distance + h * (2 * model.reach + 1) : nullptr;
    const Head looking = head(s, h, asks_first_alone);
    const int width = padded(looking.num_keys);
    attend(looking, {table, model.reach, block.position.data() + block.start[s]}, own,
           probabilities(s, h, at));
    if (!scores) return;
    float* received = at.received.data() + h * width;
    std::fill(received, received + width, 0.0f);
    add_columns(probabilities(s, h, at), looking.num_queries, width, received);
  }

  // Importance scores: the mean over the heads.
  void add_heads(int s, const Scratch& at) {
    const int n = block.length[s], width = padded(n);
    float* received = block.received.data() + block.start[s];
    for (int j = 0; j < n; ++j) {
      float total = 0;
      for (int h = 0; h < model.heads; ++h) total += at.received[h * width + j];
      received[j] = total / model.heads;
    }
  }

  // What the tokens that are to be finished gather.
  void collect(int s, int h, bool asks_first_alone, Scratch& own, Scratch& at) {
    const int64_t begin = block.start[s];
    gather(head(s, h, asks_first_alone), block.kept.data() + begin, block.num_kept[s], own,
           probabilities(s, h, at), block.context.data() + begin * H + h * head_size, H);
  }

  void keep_all(int s, int count) {
    block.num_kept[s] = count;
    for (int i = 0; i < count; ++i) block.kept[block.start[s] + i] = i;
  }

  // Which tokens of a sequence go on (Eq. 8), and what is recorded of it.
  void decide(int s, const Layer& weights, bool finishes_first) {
    const int begin = block.start[s], n = block.length[s];
    const float* received = block.received.data() + begin;
    std::vector<float>& score = space.own().received;  // its sums have been read
    std::copy(received, received + n, score.begin());
    if (rule.prunes) rescore(begin, n, weights, score.data());
    uint8_t* retained = block.retained.data() + begin;
    bool is_empty = true;
    for (int j = 0; j < n; ++j) {
      retained[j] = !rule.prunes || score[j] > weights.threshold || is_protected(begin + j);
      is_empty &= !retained[j];
    }
    // The first of those that draw the most attention.
    if (is_empty && !rule.is_never_empty)
      retained[std::max_element(received, received + n) - received] = 1;
    int count = 0;
    for (int j = 0; j < n; ++j)
      if (retained[j] && (!finishes_first || block.position[begin + j] == 0))
        block.kept[begin + count++] = j;
    block.num_kept[s] = count;
    if (batch.score)
      for (int j = 0; j < n; ++j) {
        const int64_t cell = weights.index * batch.num_tokens + block.token[begin + j];
        batch.live[cell] = 1, batch.retained[cell] = retained[j];
        batch.score[cell] = score[j], batch.attention[cell] = received[j];
      }
  }

  bool is_protected(int t) const { return batch.is_protected[block.token[t]]; }

  bool is_ordinary(int t) const { return !is_protected(t) && !batch.is_special[block.token[t]]; }

  // The learned factor exp(2 tanh(u h / sqrt(H))), and the unit of the score.
  void rescore(int begin, int n, const Layer& weights, float* score) const {
    if (weights.direction)
      for (int j = 0; j < n; ++j) {
        const float* state = block.attended.data() + int64_t(begin + j) * H;
        float projected = 0;
        for (int d = 0; d < H; ++d) projected += state[d] * weights.direction[d];
        score[j] *= std::exp(2.0f * std::tanh(projected / std::sqrt(float(H))));
      }
    if (!rule.is_ordinary) return;
    float total = 0, number = 0;
    for (int j = 0; j < n; ++j)
      if (is_ordinary(begin + j)) total += score[j], number += 1;
    if (number == 0) return;
    const float factor = number / std::max(total, 1.17549435e-38f);
    for (int j = 0; j < n; ++j) score[j] *= factor;
  }

  // Where the rows of the finished tokens are, and what was counted; `single` waits for everyone.
  void keep(const Layer& weights, bool asks_first_alone) {
#pragma omp single
    {
      int row = 0;
      const int64_t counts = weights.index * batch.num_sequences + first_sequence;
      for (int s = 0; s < num_sequences; ++s) {
        const int begin = block.start[s], n = block.length[s];
        batch.entered[counts + s] = n;
        batch.asked[counts + s] = asks_first_alone ? 1 : n;
        batch.left[counts + s] = block.num_kept[s];
        int next = 0;
        for (int j = 0; j < n; ++j) {
          const bool is_kept = next < block.num_kept[s] && block.kept[begin + next] == j;
          if (!is_kept) {
            read(begin + j);
            continue;
          }
          block.from_context[row] = begin + next++;
          block.from_hidden[row] = begin + j;
          block.token[row] = block.token[begin + j];
          block.position[row++] = block.position[begin + j];
        }
      }
      for (int s = 0; s < num_sequences; ++s) {
        block.length[s] = block.num_kept[s];
        block.start[s + 1] = block.start[s] + block.length[s];
      }
    }
  }

  // A token's last computed state, for the head.
  void read(int t) {
    const int64_t at = batch.read_at[block.token[t]];
    const float* state = block.hidden.data() + t * H;
    if (at >= 0) std::copy(state, state + H, batch.states + at * H);
  }

  // Output projection, residual and layer norm (Eq. 2) of the finished tokens, or of all.
  template <class Type>
  void attend_output(const Layer& weights, bool is_gathered) {
    const int* context = is_gathered ? block.from_context.data() : nullptr;
    const int* hidden = is_gathered ? block.from_hidden.data() : nullptr;
    Rows rows{block.context.data(), H, num_live(), context};
    Rows residual{block.hidden.data(), H, num_live(), hidden};
    multiply<Type>(rows, weights.output, space, add(block.attended, weights.output, residual));
    normalise(block.attended, weights.attended);
  }

  // The FFN with its residual and layer norm (Eqs. 3-4) of the rows of `attended` that `index` names.
  template <class Type>
  void finish(const Layer& weights, const int* index) {
    Rows attended{block.attended.data(), H, num_live(), index};
    multiply<Type>(attended, weights.inner, space, [&](int i, int j, float* sums, int n) {
      for (int c = 0; c < WIDE; c += LANES)
        store(sums + c, gelu(load(sums + c) + load(weights.inner.bias + j + c)));
      std::copy(sums, sums + n, block.inner.data() + int64_t(i) * model.intermediate + j);
    });
    Rows inner{block.inner.data(), model.intermediate, num_live()};
    multiply<Type>(inner, weights.outer, space, add(block.hidden, weights.outer, attended));
    normalise(block.hidden, weights.finished);
  }

  static auto write(std::vector<float>& to, const Map& map) {
    return [&to, &map](int i, int j, const float* sums, int n) {
      float* row = to.data() + i * map.outer + j;
      for (int c = 0; c < n; ++c) row[c] = sums[c] + map.bias[j + c];
    };
  }

  static auto add(std::vector<float>& to, const Map& map, const Rows& residual) {
    return [&to, &map, residual](int i, int j, const float* sums, int n) {
      float* row = to.data() + i * map.outer + j;
      const float* other = residual.row(i) + j;
      for (int c = 0; c < n; ++c) row[c] = sums[c] + map.bias[j + c] + other[c];
    };
  }

  void normalise(std::vector<float>& states, const Norm& norm) {
#pragma omp for schedule(static)
    for (int t = 0; t < num_live(); ++t) {
      float* row = states.data() + t * H;
      float total = 0, squares = 0;
#pragma omp simd reduction(+ : total)
      for (int d = 0; d < H; ++d) total += row[d];
      const float mean = total / H;
#pragma omp simd reduction(+ : squares)
      for (int d = 0; d < H; ++d) squares += (row[d] - mean) * (row[d] - mean);
      const float scale = 1 / std::sqrt(squares / H + model.eps);
      for (int d = 0; d < H; ++d) row[d] = (row[d] - mean) * scale * norm.weight[d] + norm.bias[d];
    }
  }
};

template <class Type>
void run(const Model& model, const Rule& rule, const Batch& batch) {
  Pass pass(model, rule, batch);
  int64_t token = 0;
  for (int begin = 0, end; begin < batch.num_sequences; begin = end) {
    int64_t tokens = batch.lengths[begin];
    for (end = begin + 1; end < batch.num_sequences; ++end) {
      if (tokens + batch.lengths[end] > BLOCK_TOKENS) break;
      tokens += batch.lengths[end];
    }
    pass.run<Type>(begin, end, token);
    token += tokens;
  }
}

}  // namespace

extern "C" {

// Outputs in a panel of weights.
int panel_width() { return WIDE; }

// Whether the processor multiplies pairs of bfloat16.
int has_bfloat16() {
#if defined(__AVX512BF16__)
  return 1;
#else
  return 0;
#endif
}

// Whether it multiplies bytes in fours.
int has_int8() {
#if defined(__AVX512VNNI__)
  return 1;
#else
  return 0;
#endif
}

// 0 done, 1 no memory for it, 2 weights of a type that `has_bfloat16` or `has_int8` denies.
int run_encoder(const Model* model, const Rule* rule, const Batch* batch) {
  try {
    switch (model->type) {
      case 0: run<Float32>(*model, *rule, *batch); return 0;
#if defined(__AVX512BF16__)
      case 1: run<Bfloat16>(*model, *rule, *batch); return 0;
#endif
#if defined(__AVX512VNNI__)
      case 2: run<Int8>(*model, *rule, *batch); return 0;
#endif
    }
    return 2;
  } catch (const std::bad_alloc&) {
    return 1;
  }
}

}  // extern "C"
