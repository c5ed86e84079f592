// The parameters of one perceptron and the sums that become their gradient, with rows as long as vectors want them.

#pragma once

#include "shapes.h"

struct Pack {
    std::vector<float> weights[MOST_LAYERS], transposed[MOST_LAYERS], biases[MOST_LAYERS];

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
    std::vector<float> weights[MOST_LAYERS], biases[MOST_LAYERS];

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

// What one agent hears of all states.
inline void hear(const Work& net, const float* states, long agent, float* to) {
    const long features = net.width(0) / net.places;
    const int64_t* heard = net.heard + agent * net.places;
    for (long k = 0; k < net.places; k++, to += features) {
        const float* from = states + heard[k] * features;
        if (heard[k] < 0)
            for (long d = 0; d < features; d++) to[d] = 0.0f;
        else
            for (long d = 0; d < features; d++) to[d] = from[d];
    }
}

// What some samples of one perceptron are given, in padded rows.
inline void give(const Work& net, long stack, long first, long rows, float* to) {
    const long inputs = net.width(0), columns = padded(inputs);
    const bool shared = net.stacks == 1;  // by all agents, whose samples then follow one another
    for (long row = first; row < first + rows; row++, to += columns) {
        if (net.heard) {
            const long sample = shared ? row / net.agents : row, agent = shared ? row % net.agents : stack;
            hear(net, net.x + sample * net.agents * (inputs / net.places), agent, to);
        } else {
            const float* x = net.x + (stack * net.samples + row) * inputs;
            std::copy(x, x + inputs, to);
        }
        std::fill(to + inputs, to + columns, 0.0f);
    }
}
