// The lanes of a word, each a number of its own: what nodes take that do not pack them into an ap_uint.
#pragma once

#include <array>
#include <cstddef>

namespace hls {

template<typename T, std::size_t N>
class vector {
    std::array<T, N> lanes{};

public:
    using lane = T;
    static constexpr std::size_t size = N;

    constexpr T &operator[](std::size_t const index) { return lanes[index]; }
    constexpr T const &operator[](std::size_t const index) const { return lanes[index]; }
};

}  // namespace hls
