// Pools: one value of each channel out of a window of values.
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <limits>

#include "ap_int.h"
#include "hls_stream.h"
#include "hls_vector.h"

// What starts a channel's window, takes each of its values in, and makes the result of them.
template<typename T>
struct MaxPoolFunction {
    static constexpr std::int64_t start = std::numeric_limits<std::int64_t>::min();
    static std::int64_t take(std::int64_t const so_far, std::int64_t const value) { return std::max(so_far, value); }
    static std::int64_t result(std::int64_t const largest) { return largest; }
};

template<typename T>
struct AccPoolFunction {
    static constexpr std::int64_t start = 0;
    static std::int64_t take(std::int64_t const so_far, std::int64_t const value) { return so_far + value; }
    static std::int64_t result(std::int64_t const sum) { return sum; }
};

// The sum, less its lowest SHIFT bits.
template<typename T, typename Accumulator, unsigned SHIFT>
struct QuantAvgPoolFunction : AccPoolFunction<T> {
    static std::int64_t result(std::int64_t const sum) { return sum >> SHIFT; }
};

// WORDS words come in, K of a window one after another; a word goes out for each window.
template<unsigned WORDS, unsigned K, typename In, typename Out, typename Function>
void Pool_batch(hls::stream<In> &in, hls::stream<Out> &out, Function const &function) {
    static_assert(WORDS % K == 0, "no part of a window");
    for (unsigned window = 0; window < WORDS / K; window++) {
        std::int64_t found[In::size];
        std::fill_n(found, In::size, function.start);
        for (unsigned k = 0; k < K; k++) {
            In const word = in.read();
            for (std::size_t lane = 0; lane < In::size; lane++) found[lane] = function.take(found[lane], word[lane]);
        }
        Out result;
        for (std::size_t lane = 0; lane < In::size; lane++) result[lane] = typename Out::lane(function.result(found[lane]));
        out.write(result);
    }
}
