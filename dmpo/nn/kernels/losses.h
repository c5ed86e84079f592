// Losses of a perceptron's outputs in some samples, and their gradient; `Lesson` says which, and learn.py what they are.
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

// One task's agent, and what it learns.
class Teacher {
    const Lesson& lesson;
    const long agents, agent, outputs;
    const float share;  // of one sample in a mean
    double* const found;
    TileColumns y, to_y, targets, advantages, acted, before, losses, divergences, to_scales;
    Lines<float> scales, inverse;  // log standard deviations, and what to divide by

  public:
    Teacher(const Work& net, const Lesson& lesson, const Task& task)
        : lesson(lesson),
          agents(net.agents),
          agent(task.stack),
          outputs(net.outputs()),
          share(1.0f / net.samples),
          found(lesson.found + task.number * lesson.width(net)),
          y(outputs),
          to_y(outputs),
          targets(1),
          advantages(1),
          acted(lesson.kind == GAUSSIAN ? outputs : 1),
          before(lesson.kind == GAUSSIAN ? 2 * outputs : outputs),
          losses(1),
          divergences(1),
          to_scales(outputs) {
        std::fill_n(found, lesson.width(net), 0.0);
        for (long a = 0; a < outputs && lesson.kind == GAUSSIAN; a++) {
            scales.push_back(lesson.log_std[agent * outputs + a]);
            inverse.push_back(std::exp(-scales[a]));
        }
    }

    // The gradient of an agent's mean loss, from what it gives in the samples from `first` on, both (rows, outputs).
    void teach(const float* given, long first, long rows, float* gradient) {
        y.take(given, outputs, rows);
        take(targets, lesson.targets, 1, first, rows);
        if (lesson.kind == SQUARES)
            squares(rows);
        else
            surrogates(first, rows);
        found[0] += losses.sum(0, rows);
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
        take(advantages, lesson.advantages, 1, first, rows);
        if (lesson.behavior) take(before, lesson.behavior, before.all.size() / TILE, first, rows);
        if (lesson.kind == GAUSSIAN) {
            take(acted, static_cast<const float*>(lesson.actions), outputs, first, rows);
            for (long i = 0; i < rows; i += LANES) gaussian(i);
            for (long a = 0; a < outputs; a++) found[2 + a] += to_scales.sum(a, rows);
        } else {
            take(acted, static_cast<const int64_t*>(lesson.actions), 1, first, rows);
            for (long i = 0; i < rows; i += LANES) categorical(i);
        }
        if (lesson.behavior) found[1] += divergences.sum(0, rows);
    }

    // What minus eq. 7 and minus the entropy's bonus make the loss; its slope along the log-probability, turned round.
    Vector surrogate(Vector log_prob, Vector entropy, long i) {
        const Vector ratio = exp_of(log_prob - load(targets.at(0, i))), advantage = load(advantages.at(0, i));
        const Vector whole = ratio * advantage, cut = bounded(ratio, 1.0f - lesson.clip, 1.0f + lesson.clip) * advantage;
        const auto beyond = whole > cut;  // a NaN is not
        store(losses.at(0, i), -(beyond ? cut : whole) - lesson.bonus * entropy);
        return beyond ? Vector{} : share * whole;
    }

    void gaussian(long i) {
        const float constant = 0.5f * std::log(2 * float(M_PI));
        Vector log_prob = {}, entropy = {}, divergence = {};
        for (long a = 0; a < outputs; a++) {
            const Vector distance = (load(acted.at(a, i)) - load(y.at(a, i))) * inverse[a];
            store(to_y.at(a, i), distance);
            log_prob -= 0.5f * distance * distance + scales[a] + constant;
            entropy += scales[a] + constant + 0.5f;
        }
        const Vector slope = surrogate(log_prob, entropy, i);
        for (long a = 0; a < outputs; a++) {
            const Vector distance = load(to_y.at(a, i));
            store(to_y.at(a, i), -slope * distance * inverse[a]);
            store(to_scales.at(a, i), -slope * (distance * distance - 1.0f) - share * lesson.bonus);
            if (!lesson.behavior) continue;
            const Vector wider = load(before.at(outputs + a, i)) - scales[a];
            const Vector moved = (load(before.at(a, i)) - load(y.at(a, i))) * inverse[a];
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
        const Vector all = most + log_of(sum), one = 1.0f / sum, action = load(acted.at(0, i));
        for (long a = 0; a < outputs; a++) {
            const Vector log_prob = load(y.at(a, i)) - all;
            entropy -= load(to_y.at(a, i)) * one * log_prob;
            chosen += action == float(a) ? log_prob : Vector{};
            if (!lesson.behavior) continue;
            const Vector old = load(before.at(a, i));
            divergence += exp_of(old) * (old - log_prob);
        }
        store(divergences.at(0, i), divergence);
        const Vector slope = surrogate(chosen, entropy, i);
        for (long a = 0; a < outputs; a++) {
            const Vector probability = load(to_y.at(a, i)) * one, log_prob = load(y.at(a, i)) - all;
            const Vector others = action == float(a) ? probability - 1.0f : probability;
            store(to_y.at(a, i), slope * others + share * lesson.bonus * probability * (log_prob + entropy));
        }
    }
};
