// Losses of an MLP's outputs on a tile of samples, and their gradient: those of `LossInputs`, defined in fused.py.
// Included once for every level of processor, after blocks.h.

static_assert(TILE % LANES == 0, "vectors of samples must not reach from one number into the next");

INLINE Vector exp_of(Vector x) { return (Vector)exponential((Register)x); }
INLINE Vector log_of(Vector x) { return (Vector)logarithm((Register)x); }

// Some numbers each of a tile's samples; those of one kind side by side, so that vectors hold samples.
struct TileColumns {
    Lines<float> all;

    explicit TileColumns(long count) : all(count * TILE) {}

    float* at(long column, long i = 0) { return &all[column * TILE + i]; }

    template <class Number>
    void take(const Number* from, long row, long rows) {
        for (long c = 0; c * TILE < long(all.size()); c++) {
            float* to = at(c);
            for (long i = 0; i < rows; i++) to[i] = from[i * row + c];
        }
    }

    void give(float* to, long count, long rows) {
        for (long c = 0; c < count; c++) {
            const float* from = at(c);
            for (long i = 0; i < rows; i++) to[i * count + c] = from[i];
        }
    }

    double sum(long column, long rows) {
        double sum = 0.0;
        for (long i = 0; i < rows; i++) sum += *at(column, i);
        return sum;
    }
};

// Loss and gradient of one agent, tile by tile, over the samples of a task.
class LossKernel {
    const LossInputs& loss;
    const long agents, agent, outputs;
    const float share;  // of one sample in a mean
    double* const result;
    TileColumns y, to_y, targets, advantages, actions, old_params, losses, divergences, to_scales;
    Lines<float> scales, inverse;  // log standard deviations, and what to divide by

  public:
    LossKernel(const Work& net, const LossInputs& loss, const Task& task)
        : loss(loss),
          agents(net.agents),
          agent(task.stack),
          outputs(net.outputs()),
          share(1.0f / net.samples),
          result(loss.result + task.number * loss.width(net)),
          y(outputs),
          to_y(outputs),
          targets(1),
          advantages(1),
          actions(loss.kind == GAUSSIAN ? outputs : 1),
          old_params(loss.kind == GAUSSIAN ? 2 * outputs : outputs),
          losses(1),
          divergences(1),
          to_scales(outputs) {
        std::fill_n(result, loss.width(net), 0.0);
        for (long a = 0; a < outputs && loss.kind == GAUSSIAN; a++) {
            scales.push_back(loss.log_std[agent * outputs + a]);
            inverse.push_back(std::exp(-scales[a]));
        }
    }

    // Gradient of the mean loss with respect to the outputs of the samples from `first` on, both (rows, outputs).
    void compute(const float* outputs_of_tile, long first, long rows, float* gradient) {
        y.take(outputs_of_tile, outputs, rows);
        take(targets, loss.targets, 1, first, rows);
        if (loss.kind == SQUARES)
            squares(rows);
        else
            surrogates(first, rows);
        result[0] += losses.sum(0, rows);
        to_y.give(gradient, outputs, rows);
    }

  private:
    template <class Number>
    void take(TileColumns& to, const Number* from, long width, long first, long rows) {
        from += (first * agents + agent) * width;
        for (long i = 0; i < rows; i++) fetch(from + (i + TILE) * agents * width);
        to.take(from, agents * width, rows);
    }

    void squares(long rows) {
        for (long i = 0; i < rows; i += LANES) {
            const Vector distance = load(y.at(0, i)) - load(targets.at(0, i));
            store(losses.at(0, i), distance * distance);
            store(to_y.at(0, i), 2.0f * share * distance);
        }
    }

    void surrogates(long first, long rows) {
        take(advantages, loss.advantages, 1, first, rows);
        if (loss.old_dist_params) take(old_params, loss.old_dist_params, old_params.all.size() / TILE, first, rows);
        if (loss.kind == GAUSSIAN) {
            take(actions, static_cast<const float*>(loss.actions), outputs, first, rows);
            for (long i = 0; i < rows; i += LANES) gaussian(i);
            for (long a = 0; a < outputs; a++) result[2 + a] += to_scales.sum(a, rows);
        } else {
            take(actions, static_cast<const int64_t*>(loss.actions), 1, first, rows);
            for (long i = 0; i < rows; i += LANES) categorical(i);
        }
        if (loss.old_dist_params) result[1] += divergences.sum(0, rows);
    }

    // What minus eq. 7 and minus the entropy's entropy_coef make the loss; its slope along the log-probability, turned round.
    Vector surrogate(Vector log_prob, Vector entropy, long i) {
        const Vector ratio = exp_of(log_prob - load(targets.at(0, i))), advantage = load(advantages.at(0, i));
        const Vector whole = ratio * advantage, cut = bounded(ratio, 1.0f - loss.clip, 1.0f + loss.clip) * advantage;
        const auto beyond = whole > cut;  // a NaN is not
        store(losses.at(0, i), -(beyond ? cut : whole) - loss.entropy_coef * entropy);
        return beyond ? Vector{} : share * whole;
    }

    void gaussian(long i) {
        const float constant = 0.5f * std::log(2 * float(M_PI));
        Vector log_prob = {}, entropy = {}, divergence = {};
        for (long a = 0; a < outputs; a++) {
            const Vector distance = (load(actions.at(a, i)) - load(y.at(a, i))) * inverse[a];
            store(to_y.at(a, i), distance);
            log_prob -= 0.5f * distance * distance + scales[a] + constant;
            entropy += scales[a] + constant + 0.5f;
        }
        const Vector slope = surrogate(log_prob, entropy, i);
        for (long a = 0; a < outputs; a++) {
            const Vector distance = load(to_y.at(a, i));
            store(to_y.at(a, i), -slope * distance * inverse[a]);
            store(to_scales.at(a, i), -slope * (distance * distance - 1.0f) - share * loss.entropy_coef);
            if (!loss.old_dist_params) continue;
            const Vector wider = load(old_params.at(outputs + a, i)) - scales[a];
            const Vector moved = (load(old_params.at(a, i)) - load(y.at(a, i))) * inverse[a];
            divergence += 0.5f * (exp_of(2.0f * wider) + moved * moved - 1.0f) - wider;  // 0 where nothing has changed
        }
        store(divergences.at(0, i), divergence);
    }

    void categorical(long i) {
        Vector most = load(y.at(0, i)), sum = {}, entropy = {}, chosen = {}, divergence = {};
        for (long a = 1; a < outputs; a++) most = load(y.at(a, i)) > most ? load(y.at(a, i)) : most;
        for (long a = 0; a < outputs; a++) {
            const Vector part = exp_of(load(y.at(a, i)) - most);
            store(to_y.at(a, i), part);
            sum += part;
        }
        const Vector all = most + log_of(sum), one = 1.0f / sum, action = load(actions.at(0, i));
        for (long a = 0; a < outputs; a++) {
            const Vector log_prob = load(y.at(a, i)) - all;
            entropy -= load(to_y.at(a, i)) * one * log_prob;
            chosen += action == float(a) ? log_prob : Vector{};
            if (!loss.old_dist_params) continue;
            const Vector old = load(old_params.at(a, i));
            divergence += exp_of(old) * (old - log_prob);
        }
        store(divergences.at(0, i), divergence);
        const Vector slope = surrogate(chosen, entropy, i);
        for (long a = 0; a < outputs; a++) {
            const Vector probability = load(to_y.at(a, i)) * one, log_prob = load(y.at(a, i)) - all;
            const Vector others = action == float(a) ? probability - 1.0f : probability;
            store(to_y.at(a, i), slope * others + share * loss.entropy_coef * probability * (log_prob + entropy));
        }
    }
};
