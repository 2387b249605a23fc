// hls::vector, which the open ap_types lack, as far as finn-hlslib compiles with it.
#pragma once

#include <array>
#include <cstddef>

namespace hls {

template<typename T, std::size_t N>
class vector : public std::array<T, N> {};

}  // namespace hls
