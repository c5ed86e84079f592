// Parameters of one MLP and the sums that become their gradient, in rows padded to whole vectors.

#pragma once

#include "shapes.h"

struct Pack {
    Lines<float> weights[MOST_LAYERS], transposed[MOST_LAYERS], biases[MOST_LAYERS];

    Pack(const Work& net, long stack) {
        for (long l = 0; l < net.layers; l++) {
            const long in = net.width(l), out = net.width(l + 1);
            const float* weight = net.parameters[2 * l] + stack * in * out;
            const float* bias = net.parameters[2 * l + 1] + stack * out;
            weights[l].resize(in * padded(out));
            transposed[l].resize(out * padded(in));
            biases[l].resize(padded(out));
            std::copy(bias, bias + out, biases[l].begin());
            for (long i = 0; i < in; i++)
                for (long o = 0; o < out; o++)
                    weights[l][i * padded(out) + o] = transposed[l][o * padded(in) + i] = weight[i * out + o];
        }
    }
};

// Of the weights, but the last one, which is summed transposed, as it has few columns.
struct Sums {
    Lines<float> weights[MOST_LAYERS], biases[MOST_LAYERS];

    explicit Sums(const Work& net) {
        for (long l = 0; l < net.layers; l++) {
            const long in = net.width(l), out = net.width(l + 1);
            weights[l].resize(l + 1 == net.layers ? out * padded(in) : in * padded(out));
            biases[l].resize(padded(out));
        }
    }

    // In the order of the parameters, without padding.
    void write(const Work& net, float* to) const {
        for (long l = 0; l < net.layers; l++) {
            const long in = net.width(l), out = net.width(l + 1);
            const bool last = l + 1 == net.layers;
            for (long i = 0; i < in; i++)
                for (long o = 0; o < out; o++)
                    *to++ = last ? weights[l][o * padded(in) + i] : weights[l][i * padded(out) + o];
            to = std::copy(biases[l].begin(), biases[l].begin() + out, to);
        }
    }
};

// A few numbers, four at a time, the last four with some once more.
inline void copy(const float* from, long count, float* to) {
    constexpr long FOUR = 4;
    if (count < FOUR) {
        std::copy(from, from + count, to);
        return;
    }
    for (long i = 0; i + FOUR < count; i += FOUR) __builtin_memcpy(to + i, from + i, FOUR * sizeof(float));
    __builtin_memcpy(to + count - FOUR, from + count - FOUR, FOUR * sizeof(float));
}

// States that some samples of one MLP receive from the neighborhood, in rows of `columns`; padding stays as it is.
inline void gather(const Work& net, long stack, long first, long rows, long columns, float* to) {
    const bool shared = net.stacks == 1;  // by all agents, whose samples then follow one another
    const long features = net.width(0) / net.places, state = net.agents * features;
    const long next_tile = (shared ? TILE / net.agents : TILE) * state;
    for (long k = 0; k < net.places; k++, to += features) {
        long agent = shared ? first % net.agents : stack;
        const float* states = net.x + (shared ? first / net.agents : first) * state;
        for (long row = 0; row < rows; row++) {
            const long source = net.sources[agent * net.places + k];
            if (source < 0) {
                std::fill_n(to + row * columns, features, 0.0f);
            } else {
                copy(states + source * features, features, to + row * columns);
                fetch(states + source * features + next_tile);
            }
            if (!shared)
                states += state;
            else if (++agent == net.agents)
                agent = 0, states += state;
        }
    }
}

// Inputs of some samples of one MLP, in padded rows whose padding stays as it is.
inline void give(const Work& net, long stack, long first, long rows, float* to) {
    const long inputs = net.width(0), columns = padded(inputs);
    if (net.sources) {
        gather(net, stack, first, rows, columns, to);
        return;
    }
    const float* x = net.x + (stack * net.samples + first) * inputs;
    for (long row = 0; row < rows; row++) copy(x + row * inputs, inputs, to + row * columns);
}
