// Arrays of lanes to and from one word; lane 0 lies in the lowest bits.
#pragma once

#include <cstddef>

#include "ap_int.h"

template<typename T>
inline constexpr std::size_t width_v = T::width;

template<typename T, std::size_t N>
QNN_INLINE ap_uint<int(N * width_v<T>)> flatten(T const (&lanes)[N]) {
    ap_uint<int(N * width_v<T>)> word;
    for (std::size_t i = 0; i < N; i++) word.template set_lane<T::width>(i, lanes[i]);
    return word;
}

template<typename T, std::size_t N>
QNN_INLINE void unflatten(T (&lanes)[N], ap_uint<int(N * width_v<T>)> const &word) {
    for (std::size_t i = 0; i < N; i++) lanes[i] = T(word.template lane<T::width>(i));
}
