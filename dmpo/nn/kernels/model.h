// The gradient of the models' loss over sequences of H steps (`OpenLoopLoss` but for the ends), the sum over agents. Steps and
// agents of one sequence depend on each other, but not on those of another: each thread computes some sequences, with all
// their agents and steps. Included once for every level of processor, after feature_major.h.

// Rows of STRETCH numbers for each of some matrices.
struct Buffers {
    std::unique_ptr<float[]> all;  // to begin with whatever is there: zeros would take a tenth of the time
    long rows;

    Buffers(long count, long rows) : all(new float[count * rows * STRETCH]), rows(rows) {}
    float* operator()(long which) { return &all[which * rows * STRETCH]; }
    Rows of(long which) { return {(*this)(which), STRETCH}; }
};

// Outputs of the layers of R MLPs in one step.
struct Layers {
    std::vector<Buffers> layers;

    explicit Layers(const Work& net) {
        for (long l = 0; l < net.layers; l++) layers.emplace_back(net.stacks, net.width(l + 1));
    }
    float* last(long which) { return layers.back()(which); }
    void forward(const Work& net, long which, Rows x, long samples) {
        float* to[MOST_LAYERS];
        for (long l = 0; l < net.layers; l++) to[l] = layers[l](which);
        forward_layers(net, which, x, to, samples);
    }
    void given(const Work& net, long which, Rows x, Rows* to) {
        for (long l = 0; l < net.layers; l++) to[l] = l ? layers[l - 1].of(which) : x;
    }
};

struct Step {
    Buffers encoder_inputs, given, state;  // (N, D or D + W), (N, message + W) and, after the step, (N, D)
    Layers encoder, edge, node;

    explicit Step(const Models& m)
        : encoder_inputs(m.agents, m.encoder->width(0)), given(m.agents, m.node->width(0)), state(m.agents, m.features),
          encoder(*m.encoder), edge(*m.edge), node(*m.node) {}
};

static std::vector<ColumnSums> sums_for(const Work& net, long threads, long thread) {
    std::vector<ColumnSums> sums;
    for (long which = 0; which < net.stacks; which++)
        sums.emplace_back(net, net.to_parameters + (which * threads + thread) * net.size());
    return sums;
}

// The sums of a thread, of all agents and all edges, and room for gradients.
struct Gradients {
    std::vector<ColumnSums> encoder, edge, node;
    Buffers state, encoder_inputs, outputs, given, encoded, pairs;
    Lines<float> scratch[2];

    Gradients(const Models& m, long thread)
        : encoder(sums_for(*m.encoder, m.threads, thread)), edge(sums_for(*m.edge, m.threads, thread)),
          node(sums_for(*m.node, m.threads, thread)), state(m.agents, m.features), encoder_inputs(1, m.encoder->width(0)),
          outputs(1, m.features + 1), given(m.agents, m.node->width(0)), encoded(m.agents, m.encoder->outputs()),
          pairs(1, m.edge->width(0)) {
        const long widest = std::max({m.encoder->widest(), m.edge->widest(), m.node->widest()});
        for (auto& each : scratch) each.resize(widest * STRETCH);
    }
};

// Sequences first ... first + count - 1; where they do not fill vectors, zeros follow.
struct Part {
    long first, count, samples;

    void copy(const float* from, long step, long rows, float* to) const {
        for (long i = 0; i < rows; i++) {
            std::copy(from + i * step + first, from + i * step + first + count, to + i * STRETCH);
            std::fill(to + i * STRETCH + count, to + i * STRETCH + samples, 0.0f);
        }
    }
};

template <class What>
INLINE void fill(long rows, long samples, float* to, What what) {
    for (long i = 0; i < rows; i++)
        for (long t = 0; t < samples; t += LANES) store(to + i * STRETCH + t, what(i * STRETCH + t));
}

static void add(long rows, long samples, const float* x, float* to) {
    fill(rows, samples, to, [&](long k) INLINED { return load(to + k) + load(x + k); });
}

// What both terminated of an edge have encoded.
static Rows ends_of(const Models& m, Step& step, long edge, Buffers& pairs, long samples) {
    const long encoding = m.encoder->outputs();
    for (long end = 0; end < 2; end++) {
        const float* from = step.encoder.last(m.pairs[2 * edge + end]);
        fill(encoding, samples, pairs(0) + end * encoding * STRETCH, [&](long k) INLINED { return load(from + k); });
    }
    return pairs.of(0);
}

static void forward_step(const Models& m, const Part& part, long h, float* const* state, Step& step, Buffers& pairs) {
    const long message = m.edge->outputs(), samples = part.samples;
    for (long n = 0; n < m.agents; n++) {
        float *encoder_inputs = step.encoder_inputs(n), *given = step.given(n);
        fill(m.features, samples, encoder_inputs, [&](long k) INLINED { return bounded(load(state[n] + k), -m.far, m.far); });
        fill(message, samples, given, [&](long) INLINED { return Vector{}; });
        const float* actions = m.actions + (n * m.action_width * m.steps + h) * m.samples;
        part.copy(actions, m.steps * m.samples, m.action_width, given + message * STRETCH);
        if (m.neighbor_actions) part.copy(actions, m.steps * m.samples, m.action_width, encoder_inputs + m.features * STRETCH);
        step.encoder.forward(*m.encoder, n, step.encoder_inputs.of(n), samples);
    }
    for (long edge = 0; edge < m.edges; edge++) {
        step.edge.forward(*m.edge, edge, ends_of(m, step, edge, pairs, samples), samples);
        add(message, samples, step.edge.last(edge), step.given(m.targets[edge]));
    }
    for (long n = 0; n < m.agents; n++) {
        step.node.forward(*m.node, n, step.given.of(n), samples);
        const float *change = step.node.last(n), *ratio = m.ratio + n * m.features, *drift = m.drift + n * m.features;
        fill(m.features, samples, step.state(n), [&](long k) INLINED {
            return load(state[n] + k) + drift[k / STRETCH] + ratio[k / STRETCH] * load(change + k);
        });
    }
}

// The gradient of the loss with respect to what agent n's model gives in step h, and to the state after it, to which
// `to_state` already holds what comes from later steps.
static void begin_step(const Models& m, const Part& part, long h, long n, Step& step, float* to_state, float* to_outputs) {
    const float share = m.scale / (m.samples * m.steps), *terminated = m.terminated + h * m.samples + part.first;
    for (long d = 0; d < m.features; d++) {
        const float *state = step.state(n) + d * STRETCH, ratio = m.ratio[n * m.features + d];
        const float* next_states = m.next_states + ((h * m.agents + n) * m.features + d) * m.samples + part.first;
        const float weight = 2 * share / m.features / (ratio * ratio);
        for (long t = 0; t < part.count; t++) to_state[d * STRETCH + t] += weight * (state[t] - next_states[t]);
        for (long t = 0; t < part.samples; t++) to_outputs[d * STRETCH + t] = ratio * to_state[d * STRETCH + t];
    }
    const float *rewards = m.rewards + (h * m.agents + n) * m.samples + part.first;
    const float* reward = step.node.last(n) + m.features * STRETCH;
    float* to_reward = to_outputs + m.features * STRETCH;
    fill(1, part.samples, to_reward, [](long) INLINED { return Vector{}; });
    for (long t = 0; t < part.count; t++)
        to_reward[t] = 2 * share * m.reward_coef * (reward[t] - rewards[t]) * (1 - terminated[t]);
}

static void backward_nodes(const Models& m, const Part& part, long h, Step& step, Gradients& to) {
    const long message = m.edge->outputs();
    Rows given[MOST_LAYERS];
    for (long n = 0; n < m.agents; n++) {
        begin_step(m, part, h, n, step, to.state(n), to.outputs(0));
        step.node.given(*m.node, n, step.given.of(n), given);
        backward_layers(*m.node, n, given, to.outputs.of(0), to.scratch, to.node[n], to.given(n), part.samples);
        float* actions = m.to_actions + (n * m.action_width * m.steps + h) * m.samples + part.first;
        for (long w = 0; w < m.action_width; w++)
            std::copy_n(to.given(n) + (message + w) * STRETCH, part.count, actions + w * m.steps * m.samples);
        fill(m.encoder->outputs(), part.samples, to.encoded(n), [](long) INLINED { return Vector{}; });
    }
}

static void backward_edges(const Models& m, const Part& part, Step& step, Buffers& pairs, Gradients& to) {
    const long encoding = m.encoder->outputs();
    Rows given[MOST_LAYERS];
    for (long edge = 0; edge < m.edges; edge++) {
        step.edge.given(*m.edge, edge, ends_of(m, step, edge, pairs, part.samples), given);
        backward_layers(*m.edge, edge, given, to.given.of(m.targets[edge]), to.scratch, to.edge[edge], to.pairs(0),
                        part.samples);
        const bool to_sender = !m.own_gradient || m.pairs[2 * edge] == m.pairs[2 * edge + 1];
        for (long end = 0; end < 1 + to_sender; end++)
            add(encoding, part.samples, to.pairs(0) + end * encoding * STRETCH, to.encoded(m.pairs[2 * edge + end]));
    }
}

// Ends with the gradient with respect to the state before the step in to.state.
static void backward_encoders(const Models& m, const Part& part, long h, float* const* state, Step& step, Gradients& to) {
    Rows given[MOST_LAYERS];
    for (long n = 0; n < m.agents; n++) {
        const Rows above = through_last(*m.encoder, to.encoded.of(n), {step.encoder.last(n), STRETCH}, part.samples,
                                        to.encoded(n));
        step.encoder.given(*m.encoder, n, step.encoder_inputs.of(n), given);
        backward_layers(*m.encoder, n, given, above, to.scratch, to.encoder[n], to.encoder_inputs(0), part.samples);
        const float* encoder_inputs = to.encoder_inputs(0);
        float* actions = m.to_actions + (n * m.action_width * m.steps + h) * m.samples + part.first;
        for (long w = 0; w < m.action_width && m.neighbor_actions; w++)
            for (long t = 0; t < part.count; t++)
                actions[w * m.steps * m.samples + t] += encoder_inputs[(m.features + w) * STRETCH + t];
        float* to_state = to.state(n);
        fill(m.features, part.samples, to_state, [&](long k) INLINED {
            const Vector x = load(state[n] + k), far = Vector{} + m.far;
            return load(to_state + k) + (x >= -far && x <= far ? load(encoder_inputs + k) : Vector{});
        });
    }
}

static void model_gradients(const Models& m, long thread) {
    const long first = m.samples * thread / m.threads, last = m.samples * (thread + 1) / m.threads;
    Gradients to(m, thread);
    Buffers begin(m.agents, m.features), pairs(1, m.edge->width(0));
    std::vector<Step> steps;
    for (long h = 0; h < m.steps; h++) steps.emplace_back(m);
    std::vector<float*> states(m.agents);
    for (long at = first; at < last; at += STRETCH) {
        const long count = std::min(STRETCH, last - at);
        const Part part = {at, count, padded(count)};
        const auto before = [&](long h) {
            for (long n = 0; n < m.agents; n++) states[n] = h ? steps[h - 1].state(n) : begin(n);
            return states.data();
        };
        for (long n = 0; n < m.agents; n++) {
            part.copy(m.state + n * m.features * m.samples, m.samples, m.features, begin(n));
            fill(m.features, part.samples, to.state(n), [](long) INLINED { return Vector{}; });
        }
        for (long h = 0; h < m.steps; h++) forward_step(m, part, h, before(h), steps[h], pairs);
        for (long h = m.steps - 1; h >= 0; h--) {
            backward_nodes(m, part, h, steps[h], to);
            backward_edges(m, part, steps[h], pairs, to);
            backward_encoders(m, part, h, before(h), steps[h], to);
        }
    }
}
